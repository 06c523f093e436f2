"""ZeRO++: hierarchical ZeRO-3 that sends weights and gradients as 8 and 4 bits: for slow networks.

Not run: DeepSpeed compiles its quantiser on first use, which needs CUDA and a compiler. It accepts the settings
(tests/test_engine/test_strategies.py).
"""

from internvl_mm.engine.strategies import DeepSpeedStrategy

strategy = dict(
    type=DeepSpeedStrategy,
    zero_stage=3,
    options=dict(
        zero_hpz_partition_size=8,  # GPUs of a node
        zero_quantized_weights=True,
        zero_quantized_gradients=True,
    ),
    precision='auto',
)
