"""Linear probes on cached features for twelve learning rates × weight decays at once.

Learning rates are per step of 1,024 images; 0.2 is the published one. Mixup and CutMix act on pixels and are left out.
"""

from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import SweepProbe

runner_type = ProbeRunner
probe = dict(
    type=SweepProbe,
    learning_rates=[0.025, 0.05, 0.1, 0.2, 0.4, 0.8],
    weight_decays=[0.0, 1e-4],
    epochs=10,
    batch_size=1024,
    label_smoothing=0.1,
)
