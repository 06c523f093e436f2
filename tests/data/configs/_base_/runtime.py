"""Settings every test config shares."""

from mmengine.hooks import CheckpointHook, LoggerHook

default_hooks = dict(
    logger=dict(type=LoggerHook, interval=1),
    checkpoint=dict(type=CheckpointHook, interval=1, priority='LOW'),
)
randomness = dict(seed=0)
log_level = 'INFO'
