"""The language model as a part of configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from internvl_mm.models.convert.files import open_weights, read_json
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError, ConfigError, did_you_mean
from internvl_mm.utils.paths import ExistingPath

from .families import FAMILIES, family_of, language_config
from .internlm2 import InternLM2Config, to_llama

# What transformers' kinds of scaled rotary positions take.
_ROPE = {
    *(
        'type',
        'rope_type',
        'factor',
        'short_factor',
        'long_factor',
        'attention_factor',
        'beta_fast',
        'beta_slow',
    ),
    *('original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor', 'mscale', 'mscale_all_dim'),
}


@MODELS.register_module()
class LanguageModel:
    """A transformers language model with a head, of any family of :data:`FAMILIES`.

    Calling the class gives the transformers model itself.

    Args:
        llm_config: Settings under their published names; ``architectures`` names the family.
        pretrained: Folder of a language model to start from. What its own ``config.json`` says about rotary positions
            counts, and its vocabulary may be smaller: new rows are set as the published trainer does.
        attention: Kernel, one of transformers' names.
    """

    @classmethod
    def check_config(cls, llm_config: dict, **options: Any) -> list[str]:
        """What is wrong with the settings: transformers takes any name, a misspelt one too."""
        del options
        if not isinstance(llm_config, dict):
            return []  # told by its type
        if not isinstance(llm_config.get('architectures'), (list, tuple)):
            return [f'llm_config.architectures has to be a list of one of {", ".join(sorted(FAMILIES))}']
        try:
            family = family_of(llm_config)
        except ConfigError as error:
            return [str(error)]
        if llm_config.get('tie_word_embeddings'):
            return [
                'llm_config.tie_word_embeddings=True has no effect: chat models store an output matrix of their '
                'own, as every published folder does. Leave it out'
            ]
        # InternLM2 says bias; rope_theta and rope_scaling are in rope_parameters since transformers 5.
        known = {*family.config_class().to_dict(), 'architectures', 'bias', 'rope_theta', 'rope_scaling'}
        scaling = llm_config.get('rope_scaling')
        names = {f'llm_config.{name}': known for name in llm_config}
        if isinstance(scaling, dict):
            names |= {f'llm_config.rope_scaling.{name}': _ROPE for name in scaling}
        return [
            f'{name} is no setting of {family.config_class.__name__}.{did_you_mean(name.split(".")[-1], allowed)}'
            for name, allowed in names.items()
            if name.split('.')[-1] not in allowed
        ]

    def __new__(
        cls, llm_config: dict, *, pretrained: ExistingPath | None = None, attention: str = 'sdpa'
    ) -> PreTrainedModel:
        """Build the model; weights are read by :func:`load_language`."""
        config = language_config(llm_config)
        if pretrained is not None and (Path(pretrained) / 'config.json').is_file():
            stored = language_config(read_json(Path(pretrained) / 'config.json'))
            # Angles belong to the weights: with another base they would read every position wrongly.
            config.rope_parameters = stored.rope_parameters
        config._attn_implementation = attention
        model = family_of(config).model_class(config)
        model.pretrained_folder = pretrained
        return model


def load_language(model: PreTrainedModel) -> None:
    """Load the weights a :class:`LanguageModel` was told to start from, strictly; nothing where there are none.

    Raises:
        CheckpointError: They do not fit.
    """
    folder = getattr(model, 'pretrained_folder', None)
    if folder is None:
        return
    weights: dict[str, Any] = dict(open_weights(folder))
    if isinstance(model.config, InternLM2Config):
        heads = dict(heads=model.config.num_attention_heads, kv_heads=model.config.num_key_value_heads)
        weights = to_llama(weights, **heads)
    if 'lm_head.weight' not in weights:  # tied in the language model, apart here
        weights['lm_head.weight'] = weights['model.embed_tokens.weight'].clone()
    for name, new in (
        ('model.embed_tokens.weight', model.get_input_embeddings()),
        ('lm_head.weight', model.get_output_embeddings()),
    ):
        weights[name] = _with_rows(weights[name], new)
    missing = sorted(set(model.state_dict()) - set(weights))
    unknown = sorted(name for name in set(weights) - set(model.state_dict()) if not name.endswith('inv_freq'))
    if missing or unknown:
        raise CheckpointError(
            f'{folder} does not fit this language model: missing {missing[:3]}, unknown {unknown[:3]} '
            f'({len(missing)} and {len(unknown)} in all)'
        )
    # Leaves out inv_freq, which old files store and which follows from the config.
    model.load_state_dict({name: weights[name] for name in model.state_dict()}, strict=True)


def _with_rows(stored: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The stored matrix with as many rows as the module: new output rows are the mean of the old ones."""
    wanted, drawn = module.weight.shape[0], module.weight.detach()
    if stored.shape[0] > wanted:
        return stored[:wanted]  # rows beyond the tokenizer, which Qwen2 pads to a multiple of 128
    if stored.shape[0] == wanted:
        return stored
    # Rows of tokens the language model did not have, such as <IMG_CONTEXT>; input rows stay as drawn.
    new = drawn[stored.shape[0] :].to(stored.dtype)
    if not isinstance(module, nn.Embedding):
        # A mean of some 150,000 rows: in fp32 on every device, whatever the dtype of the file.
        new = stored.float().mean(0, keepdim=True).to(stored.dtype).expand(len(new), -1)
    return torch.cat([stored, new])
