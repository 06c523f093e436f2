"""Track runs with MLflow as well (pip install 'internvl_mm[mlflow]'): read this base after runtime.py."""

from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer

from internvl_mm.engine.tracking import MLflowVisBackend

visualizer = dict(
    type=Visualizer,
    vis_backends=[
        dict(type=LocalVisBackend),
        dict(type=TensorboardVisBackend),
        dict(type=MLflowVisBackend),
    ],
)
