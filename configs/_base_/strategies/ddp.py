"""Every process keeps the whole model; gradients are averaged. Start with torchrun, Slurm or MPI."""

from internvl_mm.engine.strategies import DDPStrategy

# Memory of every strategy for a config: python tools/plan.py CONFIG (docs/memory.md).
strategy = dict(type=DDPStrategy, precision='auto')
