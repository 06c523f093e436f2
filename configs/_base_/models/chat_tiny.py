"""A chat model for the CPU: the tiny InternViT on 112×112 tiles of 16 tokens, and a Qwen2 of 3 layers, 96 wide."""

from mmengine.config import read_base

from internvl_mm.data.digit_scenes.chat_vocabulary import digit_chat_tokenizer
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp
from internvl_mm.models.language.part import LanguageModel
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.preprocess.chat_batch import ChatDataPreprocessor

with read_base():
    from .intern_vit_tiny import backbone as _vision

model = dict(
    type=ChatTuning,
    tokenizer=dict(type=digit_chat_tokenizer),
    chat=dict(
        type=ChatModel,
        vision=_vision,
        connector=dict(type=PixelShuffleMlp),
        language_model=dict(
            type=LanguageModel,
            llm_config=dict(
                architectures=['Qwen2ForCausalLM'],
                vocab_size=640,
                hidden_size=96,
                intermediate_size=256,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=512,
                # About 1/√width: with the usual 0.02 so small a model looks at the picture much later.
                initializer_range=0.1,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
            ),
        ),
        template='internvl2_5',
        system_message='',
        image_size=112,
    ),
    max_new_tokens=12,
    data_preprocessor=dict(type=ChatDataPreprocessor),
)
