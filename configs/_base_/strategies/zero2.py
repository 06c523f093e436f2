"""ZeRO-2: processes share out optimiser states and gradients."""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(type=DeepSpeedStrategy, zero_stage=2, precision='auto')
