"""Kinetics-700, the mean of eight frames.

Command: python tools/test.py configs/zero_shot/kinetics700_8frames.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 60.6, mean_top1_top5 71.5 (published, InternVL-C; as for one frame).
"""

from mmengine.config import read_base

with read_base():
    from .kinetics700 import *

benchmarks['kinetics700']['dataloader'].update(batch_size=8)
benchmarks['kinetics700']['dataloader']['dataset']['frames'].update(num_segments=8)
