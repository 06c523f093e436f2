"""ZeRO-3 with parameters and optimiser states in main memory: slowest, and the largest models."""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(type=DeepSpeedStrategy, zero_stage=3, offload=True, precision='auto')
