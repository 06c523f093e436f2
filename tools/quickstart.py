"""Make the digits, train a tiny InternViT on them, probe it frozen, and report.

python tools/quickstart.py --full     the same stages at full length
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

DATA = 'data/digit_scenes'
# What a stage shows, and its config; all after the first probe the weights of the first.
STAGES = {
    'fine-tuning, all weights': 'finetune',
    'linear probe, end to end': 'linear',
    'linear probes, cached features': 'linear_sweep',
    'attention-pooling probe': 'attn_pool',
    'k-NN probe, cached features': 'knn',
}


def main(argv: list[str] | None = None) -> int:
    """Run all stages; 0 on success, the status of the first stage that failed otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--full', action='store_true', help='full length instead of minutes')
    parser.add_argument(
        '--work-dir', default='work_dirs/quickstart', help='where runs and the report are kept'
    )
    args = parser.parse_args(argv)
    # At this width a second thread waits more than it works, and the data worker needs the other core.
    os.environ.setdefault('OMP_NUM_THREADS', '1')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: quickstart(args.work_dir, length='_full' if args.full else ''))


def quickstart(work_dir: str, length: str) -> None:
    """Run every stage with the arguments a user would type, then write the summary."""
    from pathlib import Path

    from internvl_mm.data.digit_scenes import write_digit_scenes
    from internvl_mm.engine.checkpoint import find_state
    from internvl_mm.evaluation.report import read_run
    from internvl_mm.evaluation.report_html import write_summary
    from internvl_mm.utils.console import console, print_table

    # The neighbouring door: a module of its own in a checkout, of internvl_mm_tools when installed.
    train = importlib.import_module(f'{__package__}.train' if __package__ else 'train')
    write_digit_scenes(DATA)
    runs = {}
    options: list[str] = []
    for title, verb in STAGES.items():
        # Probes cost little: only what they probe has a longer version.
        config = f'{verb}_intern_vit_tiny_digits{length if verb == "finetune" else ""}'
        argv = [f'quickstart/{config}.py', '--work-dir', str(Path(work_dir, config)), *options]
        console.rule(f'tools/train.py {" ".join(argv)}')
        if status := train.main(argv):
            sys.exit(status)
        runs[title] = max(run for run in Path(work_dir, config).iterdir() if (run / 'results.json').exists())
        options = options or ['--cfg-options', f'model.backbone.pretrained={find_state(runs[title])}']
    rows = [
        (title, row.value, f'{row.lower:.1f} to {row.upper:.1f}', row.n)
        for title, run in runs.items()
        for row in (row.with_interval() for row in read_run(run).results)
        if row.metric == 'top1'
    ]
    print_table('Test digits that no training image shows', ('stage', 'top-1 %', '95 %', 'n'), rows)
    console.print(f'report: {write_summary(runs.values(), Path(work_dir, "report.html")).resolve()}')


if __name__ == '__main__':
    sys.exit(main())
