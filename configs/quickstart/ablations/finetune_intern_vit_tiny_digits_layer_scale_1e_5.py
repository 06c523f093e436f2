"""Layer scales start at 1e-5, as in CaiT for deep models, instead of 1.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/finetune_intern_vit_tiny_digits_layer_scale_1e_5.py
Hardware: 1 CPU core, fp32; minutes.
Expected: top-1 21.2 after 5 epochs with a warm-up of 1 (measured, mean of 3 seeds; its parent 67.59):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

with read_base():
    from ..finetune_intern_vit_tiny_digits import *

model['backbone'].update(initializer_factor=1e-5)
