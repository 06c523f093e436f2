"""Every process keeps the whole model; gradients are averaged. Start with torchrun, Slurm or MPI."""

from internvl_mm.engine.strategies import DDPStrategy

strategy = dict(type=DDPStrategy, precision='auto')
