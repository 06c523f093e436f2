"""Names of published segmentation and ViT-Adapter checkpoints beside those of the ViT itself.

There the neck and the adapter are modules of the backbone, so all their tensors lie beside the ViT's, in full
checkpoints under ``backbone.``.
"""

from __future__ import annotations

NECK_PARTS = tuple(f'up{number}.' for number in (1, 2, 3, 4))
ADAPTER_PARTS = ('spm.', 'interactions.', 'level_embed', 'up.', 'norm1.', 'norm2.', 'norm3.', 'norm4.')
# How the names of a neck or an adapter begin, beside the ViT.
DENSE_PARTS = (*NECK_PARTS, *ADAPTER_PARTS)

# Where such a part can lie: alone, in a published segmentation or detection checkpoint, in one of our tasks.
_PLACES = ('', 'backbone.', 'module.backbone.', 'neck.')
# Published prefix -> ours, for `load_part`. The numbers inside are the same.
NECK_NAMES = {place + part: part for place in _PLACES for part in NECK_PARTS}
