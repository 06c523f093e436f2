"""Track runs with Weights & Biases as well (pip install 'internvl_mm[wandb]'): read this base after runtime.py."""

from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer

from internvl_mm.engine.tracking import WandbVisBackend

visualizer = dict(
    type=Visualizer,
    vis_backends=[
        dict(type=LocalVisBackend),
        dict(type=TensorboardVisBackend),
        dict(type=WandbVisBackend),
    ],
)
