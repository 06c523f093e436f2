"""Conversations of a meta file in the published form, padded, in groups of similar length.

A config adds ``tokenizer`` and ``template`` to the encoder, and the batch size per process to loader and sampler.
"""

from internvl_mm.data.collate_chat import collate_chat
from internvl_mm.data.datasets import ChatMixture
from internvl_mm.data.length_groups import LengthGroupedSampler
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.tiling import DynamicTiling

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=LengthGroupedSampler, batch_size=4),
    collate_fn=dict(type=collate_chat),
    dataset=dict(
        type=ChatMixture,
        meta='data/chat/meta.json',
        on_error='skip',
        encoder=dict(
            type=ChatEncoder,
            tokenizer='',
            template='',
            tiling=dict(type=DynamicTiling, max_num=6),
            max_length=4096,
            overlong='truncate',
        ),
    ),
)
