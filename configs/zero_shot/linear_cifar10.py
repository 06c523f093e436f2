"""Linear probes on CIFAR-10 with the embeddings of InternVL-C that zero-shot evaluation keeps.

Command: python tools/train.py configs/zero_shot/linear_cifar10.py
Hardware: one GPU of 40 GB in half precision (not run).
Expected: no number was published; not run.
"""

from mmengine.config import read_base

from internvl_mm.engine.probe_runner import ProbeRunner

with read_base():
    from .._base_.probes.sweep import probe
    from .cifar10 import *

runner_type = ProbeRunner
train_dataloader = dict(
    dataset=dict(benchmarks['cifar10']['dataloader']['dataset'], name='cifar10_train', split='train')
)
