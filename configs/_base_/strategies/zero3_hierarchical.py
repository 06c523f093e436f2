"""ZeRO-3 that gathers parameters within a node of 8 GPUs: for slow networks; a second copy of them per node (hpZ).

Not run: needs several nodes. DeepSpeed accepts the settings (tests/test_engine/test_strategies.py).
"""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(
    type=DeepSpeedStrategy, zero_stage=3, options=dict(zero_hpz_partition_size=8), precision='auto'
)
