"""DigitScenes conversations, drawn anew in every epoch: which digits, how many, where, about scenes of 1 or 2 digits."""

from internvl_mm.data.collate_chat import collate_chat
from internvl_mm.data.collate_prompts import collate_questions
from internvl_mm.data.datasets.digit_chat import DigitChatDataset, DigitQuestionDataset
from internvl_mm.data.digit_scenes.chat_vocabulary import digit_chat_tokenizer
from internvl_mm.data.samplers import EpochSampler, EvalSampler
from internvl_mm.evaluation.metrics import ExactMatch
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.tiling import SquashTiling

_encoder = dict(
    type=ChatEncoder,
    tokenizer=dict(type=digit_chat_tokenizer),
    template='internvl2_5',
    system_message='',
    tokens_per_tile=16,
    tiling=dict(type=SquashTiling, size=112),
)
_scenes = dict(num_digits=(1, 2), canvas=112, encoder=_encoder)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_chat),
    dataset=dict(
        type=DigitChatDataset,
        name='digit_chat_train',
        split='train',
        length=2048,
        turns=2,  # a third question could be answered from the first two and their answers, without the picture
        **_scenes,
    ),
)
benchmarks = dict(
    digit_chat=dict(
        dataloader=dict(
            batch_size=100,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_questions),
            dataset=dict(type=DigitQuestionDataset, name='digit_chat', split='test', length=200, **_scenes),
        ),
        metrics=[dict(type=ExactMatch)],
    ),
)
