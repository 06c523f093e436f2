"""What every run shares: hooks, scalars, seed. A run's folder is work_dirs/<config>/<time>/."""

from mmengine.hooks import LoggerHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer

from internvl_mm.engine.hooks import (
    BadSampleHook,
    CheckpointHook,
    FrozenCheckHook,
    HangWatchHook,
    NonFiniteHook,
    ProgressHook,
    ReportHook,
    SamplePicturesHook,
    StopSignalHook,
    ThroughputHook,
)

default_hooks = dict(
    logger=dict(type=LoggerHook, interval=10, log_metric_by_epoch=False),
    bad_samples=dict(type=BadSampleHook),
    non_finite=dict(type=NonFiniteHook),
    frozen=dict(type=FrozenCheckHook),
    hang=dict(type=HangWatchHook),
    throughput=dict(type=ThroughputHook),
    progress=dict(type=ProgressHook),
    checkpoint=dict(type=CheckpointHook),
    stop=dict(type=StopSignalHook),
    pictures=dict(type=SamplePicturesHook),
    report=dict(type=ReportHook),
)
# Curves of training and of validation get names of their own, and the iteration as their axis. Training losses and
# times are averaged over a window; numbers of benchmarks (names with a slash) are not.
log_processor = dict(
    type=LogProcessor, log_with_hierarchy=True, mean_pattern=r'^[^/]*(loss|time|grad_norm)[^/]*$'
)
visualizer = dict(
    type=Visualizer, vis_backends=[dict(type=LocalVisBackend), dict(type=TensorboardVisBackend)]
)
randomness = dict(seed=0)
