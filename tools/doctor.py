"""Examine this machine: installation, devices, precision, operators, disk, and what happens when things break.

python tools/doctor.py
python tools/doctor.py --config configs/segmentation/linear_intern_vit_6b_224px_ade20k_504.py     its files, too
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run all checks; 0 when nothing is wrong, 1 otherwise, 2 after a mistake in the config."""
    parser = argparse.ArgumentParser(
        prog='doctor', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', help='also check this config: its settings and the files it names')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs'), help='where runs are to be kept')
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: doctor(args.work_dir, args.config))


def doctor(work_dir: Path, config: str | None) -> int:
    """Print one line per check.

    Raises:
        UserError: The config has a mistake, or a file it names is missing.
    """
    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.engine.doctor import examine, findings
    from internvl_mm.utils.console import console, print_table, track

    work_dir.mkdir(parents=True, exist_ok=True)
    found = list(track(examine(work_dir), 'examining', total=len(findings.CHECKS)))
    rows = [(one.verdict, one.check, one.detail, one.seconds) for one in found]
    print_table('This machine', ('', 'what', 'found', 'seconds'), rows)
    # Last: a mistake in it ends the command, and the machine's findings are on the screen by then.
    if config is not None:
        check_config(load_config(config))
        console.print(f'{config}: every setting and every file it names is there', highlight=False)
    wrong = [one for one in found if one.verdict == 'wrong']
    console.print(f'{len(wrong)} of {len(found)} checks found something wrong', highlight=False)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
