"""Questions with a better and a worse answer, of a meta file in the published form.

A config adds ``tokenizer`` and ``template`` to the encoder.
"""

from internvl_mm.data.collate_prompts import collate_preferences
from internvl_mm.data.datasets.preferences import PreferenceMixture
from internvl_mm.data.samplers import EpochSampler
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.tiling import DynamicTiling

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_preferences),
    dataset=dict(
        type=PreferenceMixture,
        meta='data/mmpr/meta.json',
        on_error='skip',
        encoder=dict(
            type=ChatEncoder,
            tokenizer='',
            template='',
            # The published scripts name no number of tiles: the trainer's default.
            tiling=dict(type=DynamicTiling, max_num=12),
            # Unlike fine-tuning, the published preference data count 'Frame1', not 'Frame-1', and break no line after.
            frame_prefix='preference',
            max_length=6144,
            overlong='drop',
        ),
    ),
)
