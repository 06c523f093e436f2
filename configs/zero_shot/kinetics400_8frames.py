"""Kinetics-400, the mean of eight frames.

Command: python tools/test.py configs/zero_shot/kinetics400_8frames.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 69.1, mean_top1_top5 79.4 (published, InternVL-C; as for one frame).
"""

from mmengine.config import read_base

with read_base():
    from .kinetics400 import *

benchmarks['kinetics400']['dataloader'].update(batch_size=8)
benchmarks['kinetics400']['dataloader']['dataset']['frames'].update(num_segments=8)
