"""Settings every test config shares."""

from mmengine.hooks import LoggerHook

from internvl_mm.engine.hooks import CheckpointHook

default_hooks = dict(
    logger=dict(type=LoggerHook, interval=1),
    checkpoint=dict(type=CheckpointHook, priority='LOW'),
)
randomness = dict(seed=0)
log_level = 'INFO'
