"""Make the digits, train a tiny InternViT on their captions, use it for every job, and report.

python tools/quickstart.py --full     the same stages at full length
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

DATA, LARGE = 'data/digit_scenes', 'data/digit_scenes_large'  # where configs look; LARGE for --full
BACKBONE, CHAT = 'model.backbone.pretrained', 'model.chat.vision.pretrained'
CAPTIONS = ('captions_en/cider_d', 'captions_zh/cider_d', 'zero_shot/top1')
# What a stage shows, its config, the metrics it is judged by, and where it starts: a setting, and the stage whose
# weights it takes. Chat starts where InternViT has seen scenes of several digits.
STAGES = (
    ('pictures and captions: contrast', 'contrastive', ('zero_shot/top1', 'retrieval/i2t_r1'), None),
    ('segmentation: UperNet, all weights', 'seg_upernet_full', ('scenes/mIoU',), (BACKBONE, 'contrastive')),
    ('pictures and captions: QLLaMA', 'generative', CAPTIONS, ('model.model.pretrained', 'contrastive')),
    ('chat: projector, language', 'chat_pretrain', ('digit_chat/exact_match',), (CHAT, 'seg_upernet_full')),
    ('detection: Mask R-CNN', 'mask_rcnn', ('digit_scenes/bbox_AP50',), (BACKBONE, 'contrastive')),
    ('chat: all weights', 'chat_finetune', ('digit_chat/exact_match',), ('load_from', 'chat_pretrain')),
    ('fine-tuning, all weights', 'finetune_contrastive', ('digits/top1',), (BACKBONE, 'contrastive')),
    ('linear probes', 'linear_sweep', ('digits/top1',), (BACKBONE, 'contrastive')),
    ('attention-pooling probes', 'attn_pool_sweep', ('digits/top1',), (BACKBONE, 'contrastive')),
    ('k-NN', 'knn', ('digits/top1',), (BACKBONE, 'contrastive')),
    ('segmentation: UperNet, frozen', 'seg_upernet_frozen', ('scenes/mIoU',), (BACKBONE, 'contrastive')),
    ('segmentation: linear, frozen', 'seg_linear', ('scenes/mIoU',), (BACKBONE, 'contrastive')),
)


def main(argv: list[str] | None = None) -> int:
    """Run all stages; 0 on success, 2 after the last words of the first stage that failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--full', action='store_true', help='full length instead of minutes')
    parser.add_argument('--work-dir', default='work_dirs/quickstart', help='for the runs and the report')
    args = parser.parse_args(argv)
    # At this width a second thread waits more than it works, and other stages need the other cores.
    os.environ.setdefault('OMP_NUM_THREADS', '1')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: quickstart(Path(args.work_dir), full=args.full))


def quickstart(work_dir: Path, *, full: bool) -> None:
    """Run every stage with the arguments a user would type, then write the summary."""
    from internvl_mm.data.digit_scenes import DigitSceneSettings, write_digit_scenes
    from internvl_mm.engine.config.loading import config_root
    from internvl_mm.engine.stages import Stage, Stages, print_results
    from internvl_mm.evaluation.report_html import write_summary
    from internvl_mm.utils.console import console

    root = config_root() / 'quickstart'

    def name(stage: str) -> str:
        config = f'{stage}_intern_vit_tiny_digits'  # what costs little has no longer version
        return f'{config}_full' if full and (root / f'{config}_full.py').is_file() else config

    stages = [
        Stage(title, name(config), metrics, start and (start[0], name(start[1])))
        for title, config, metrics, start in STAGES
    ]
    # The neighbouring door: in tools/ of a checkout, in internvl_mm_tools when installed.
    train = Path(importlib.util.find_spec(f'{__package__}.train' if __package__ else 'train').origin)
    write_digit_scenes(DATA)
    if full:
        write_digit_scenes(LARGE, settings=DigitSceneSettings(train_size=5748, test_size=1, seed=1))
    runs = Stages(stages, work_dir, train).run()
    print_results('Test digits that no training picture shows', runs)
    folders = [folder for _, folder, _ in runs]
    console.print(f'report: {write_summary(folders, work_dir / "report.html").resolve()}')


if __name__ == '__main__':
    sys.exit(main())
