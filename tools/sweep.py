"""Run a config many times with other settings and compare the runs in one table and one page.

python tools/sweep.py --multirun config=quickstart/finetune_intern_vit_tiny_digits optim.lr=1e-3,3e-3 seed=0,1
python tools/sweep.py config=a,b seed=range(3) hydra/launcher=joblib          two leaves, three seeds, at the same time
python tools/sweep.py config=LEAF optim.lr=1e-4,3e-4,1e-3 epochs=10,20 sweep.sample=4     four points at random
python tools/sweep.py config=LEAF sweep.file=points.txt                       the settings of one point per line

Settings are dotted names of the config (optim_wrapper.optimizer.lr) or short ones: optim.lr, optim.weight_decay,
batch_size, epochs, iterations, seed, backbone. Points that finished are not run again; failed ones are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TRAIN = Path(__file__).with_name('train.py')


def main(argv: list[str] | None = None) -> int:
    """Check all points, run those that have not finished, write the tables; 1 when a point failed."""
    parser = argparse.ArgumentParser(
        prog='sweep', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('settings', nargs='+', metavar='KEY=VALUES', help='config=LEAF and what is varied')
    parser.add_argument(
        '--work-dir', type=Path, help='folder of the sweep (default: work_dirs/sweeps/<leaf>)'
    )
    parser.add_argument('--multirun', '-m', action='store_true', help='as in Hydra; always on')
    args = parser.parse_intermixed_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: sweep(args.settings, args.work_dir))


def sweep(settings: list[str], work_dir: Path | None) -> int:
    """Run the sweep and report it.

    Raises:
        UserError: A setting is wrong; nothing was started.
    """
    from internvl_mm.engine.sweep.launch import launch
    from internvl_mm.engine.sweep.report import report
    from internvl_mm.utils.errors import ConfigError

    leaves = [word.removeprefix('config=') for word in settings if word.startswith('config=')]
    if not leaves:
        raise ConfigError('config=LEAF is missing: name the leaf config whose settings are varied')
    # Without the time: a second call finds what finished, and goes on.
    root = work_dir or Path('work_dirs/sweeps', Path(leaves[0].split(',')[0]).stem)
    chosen = launch(settings, root.absolute(), train=[sys.executable, str(TRAIN)])
    return report(root, metric=chosen.metric, less=chosen.less)


if __name__ == '__main__':
    sys.exit(main())
