"""Conversations of a meta file in the published form, packed into rows of at most 16,384 tokens and 48 tiles.

A config adds ``tokenizer`` and ``template`` to the encoder.
"""

from internvl_mm.data.collate_chat import collate_packed
from internvl_mm.data.datasets import ChatMixture, PackedChatDataset
from internvl_mm.data.samplers import EpochSampler
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.tiling import DynamicTiling

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_packed),
    dataset=dict(
        type=PackedChatDataset,
        max_tokens=16_384,
        max_tiles=48,
        dataset=dict(
            type=ChatMixture,
            meta='data/chat/meta.json',
            on_error='skip',
            encoder=dict(
                type=ChatEncoder,
                tokenizer='',
                template='',
                tiling=dict(type=DynamicTiling, max_num=12),
                max_length=8192,
                overlong='truncate',
            ),
        ),
    ),
)
