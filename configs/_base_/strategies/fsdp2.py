"""FSDP2: processes share out parameters, gradients and optimiser states by rows; PyTorch alone, no DeepSpeed."""

from internvl_mm.engine.strategies import FSDPStrategy

strategy = dict(type=FSDPStrategy, precision='auto')
