"""ZeRO-1: processes share out the optimiser states."""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(type=DeepSpeedStrategy, zero_stage=1, precision='auto')
