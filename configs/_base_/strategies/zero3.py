"""ZeRO-3: processes share out optimiser states, gradients and parameters."""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(type=DeepSpeedStrategy, zero_stage=3, precision='auto')
