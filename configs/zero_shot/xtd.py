"""XTD retrieval in eight languages: the same 1,000 pictures of COCO, a caption each, not cleaned.

Command: python tools/test.py configs/zero_shot/xtd.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: image to text R@10 in the order below: C 97.3 95.7 95.1 95.6 96.0 92.2 93.3 95.5,
    G (add --cfg-options model.image_mode=InternVL-G) 98.6 97.7 96.5 96.7 96.9 95.1 94.8 96.1 (published).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import XTDDataset

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _loader, _retrieve, _squash

_dataset = dict(type=XTDDataset, name='xtd', root='data/xtd', images='data/coco', transform=_squash)
benchmarks = dict(
    xtd_en=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='en')), metrics=_retrieve),
    xtd_es=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='es')), metrics=_retrieve),
    xtd_fr=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='fr')), metrics=_retrieve),
    xtd_zh=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='zh')), metrics=_retrieve),
    xtd_it=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='it')), metrics=_retrieve),
    xtd_ko=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='ko')), metrics=_retrieve),
    xtd_ru=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='ru')), metrics=_retrieve),
    xtd_jp=dict(dataloader=dict(_loader, dataset=dict(_dataset, language='jp')), metrics=_retrieve),
)  # fmt: skip
