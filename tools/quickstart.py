"""Make the digits, train a tiny InternViT on them, use it frozen and not for every job, and report.

python tools/quickstart.py --full     the same stages at full length
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

DATA = 'data/digit_scenes'
# What a stage shows, its config, and the metric it is judged by; all after the first start from the first's weights.
STAGES = (
    ('fine-tuning, all weights', 'finetune_intern_vit_tiny_digits', 'top1'),
    ('linear probes, cached features', 'linear_sweep_intern_vit_tiny_digits', 'top1'),
    ('attention-pooling probes, cached tokens', 'attn_pool_sweep_intern_vit_tiny_digits', 'top1'),
    ('k-NN probe, cached features', 'knn_intern_vit_tiny_digits', 'top1'),
    ('detection, Mask R-CNN', 'mask_rcnn_intern_vit_tiny_digits', 'bbox_AP50'),
    ('segmentation, UperNet', 'seg_upernet_full_intern_vit_tiny_digits', 'mIoU'),
)


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

    return run_door(lambda: quickstart(args.work_dir, full=args.full))


def quickstart(work_dir: str, *, full: bool) -> None:
    """Run every stage with the arguments a user would type, then write the summary."""
    from pathlib import Path

    from internvl_mm.data.digit_scenes import write_digit_scenes
    from internvl_mm.engine.config.loading import config_root
    from internvl_mm.evaluation.report import interval_text, read_run
    from internvl_mm.evaluation.report_html import write_summary
    from internvl_mm.utils.console import console, print_table

    # The neighbouring door: a module of its own in a checkout, of internvl_mm_tools when installed.
    train = importlib.import_module(f'{__package__}.train' if __package__ else 'train')
    write_digit_scenes(DATA)
    runs, rows, options = [], [], []
    for title, config, metric in STAGES:
        # Probes cost little: only what takes long has a longer version.
        if full and (config_root() / f'quickstart/{config}_full.py').is_file():
            config = f'{config}_full'
        argv = [f'quickstart/{config}.py', '--work-dir', str(Path(work_dir, config)), *options]
        console.rule(f'tools/train.py {" ".join(argv)}')
        if status := train.main(argv):
            sys.exit(status)
        runs.append(max(run for run in Path(work_dir, config).iterdir() if (run / 'results.json').exists()))
        options = options or ['--cfg-options', f'model.backbone.pretrained={runs[0]}']
        found = [row for row in read_run(runs[-1]).results if row.metric == metric]
        rows += [(title, metric, row.value, interval_text(row), row.n) for row in found]
    print_table('Test digits that no training image shows', ('stage', 'metric', '%', '95 %', 'n'), rows)
    console.print(f'report: {write_summary(runs, Path(work_dir, "report.html")).resolve()}')


if __name__ == '__main__':
    sys.exit(main())
