"""Stage 2 in small, for the CPU: matching, contrast and captioning with a QLLaMA of 2 layers and 8 queries."""

from mmengine.config import read_base

from internvl_mm.models.tasks import GenerativePretraining
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .internvl_14b_tiny import aligner as _aligner
    from .internvl_14b_tiny import tokenizer as _tokenizer

model = dict(
    type=GenerativePretraining,
    model=dict(
        _aligner,
        image_pool='cls_patch',  # that of contrastive_tiny
        # As published the ViT and its pool stay as stage 1 made them. The Llama, there one that knew language, here
        # knows a few sentences at most: it trains too, and its head, which starts new.
        trainable=(
            'llama', 'language_head', 'queries', 'cross_attention', 'query_pool', 'matching_head', 'temperature',
        ),
    ),
    tokenizer=dict(_tokenizer, prompts=dict(en='English caption:', zh='Chinese caption:')),
    # The shortest captions have 6 tokens, the longest 33.
    generation=dict(num_beams=1, do_sample=False, max_new_tokens=40),
    data_preprocessor=dict(type=ImageDataPreprocessor),
)  # fmt: skip
