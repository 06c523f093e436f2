"""LVIS v1 validation: 19,809 pictures at (1333, 800), box and mask AP by how rare the classes are."""

from mmengine.config import read_base

from internvl_mm.evaluation.metrics.coco import LvisAP

with read_base():
    from .coco_detection import benchmarks as _coco

_loader = _coco['coco']['dataloader']
_loader['dataset'].update(name='lvis', ann_file='data/lvis/annotations/lvis_v1_val.json', images='data/coco')
benchmarks = dict(
    lvis=dict(
        dataloader=_loader,
        metrics=[dict(type=LvisAP, ann_file='data/lvis/annotations/lvis_v1_val.json')],
    ),
)
