"""Retrieval on Flickr30k and COCO, English and Chinese, one table.

Command: python tools/test.py configs/zero_shot/retrieval.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: mean recall of the English pair 86.6 for C and 88.8 for G, of the Chinese 89.0 and 90.9 (published);
    for G add --cfg-options model.image_mode=InternVL-G.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.zero_shot import *
    from .coco import benchmarks as _coco
    from .coco_cn import benchmarks as _coco_cn
    from .flickr30k import benchmarks as _flickr30k
    from .flickr30k_cn import benchmarks as _flickr30k_cn

benchmarks = dict(
    **_flickr30k, **_coco, **_flickr30k_cn, **_coco_cn,
)  # fmt: skip
