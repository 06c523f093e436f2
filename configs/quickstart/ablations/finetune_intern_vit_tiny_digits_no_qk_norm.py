"""QK norm off: queries and keys go into the attention as they are.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/finetune_intern_vit_tiny_digits_no_qk_norm.py
Hardware: 1 CPU core, fp32; minutes.
Expected: top-1 32.22 after 5 epochs with a warm-up of 1 (measured, mean of 3 seeds; its parent 67.59):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

with read_base():
    from ..finetune_intern_vit_tiny_digits import *

model['backbone'].update(qk_normalization=False)
