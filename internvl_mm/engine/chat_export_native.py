"""A trained chat model in transformers' own layout, adapters merged or beside the weights as peft keeps them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor

from internvl_mm.models.convert.chat_native import tensors_to_native
from internvl_mm.models.convert.chat_report import ChatConversion, convert_chat
from internvl_mm.models.convert.target import check_target
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.states import find_state

from .chat_export import load_task, model_card, take_adapters_out, write_published
from .checkpoint import read_meta

# Ends of peft's names in a module, and in its files. Their first dimension is the layer's output, that of A its rank.
_ROWS = {
    '.lora_B.default.weight': '.lora_B.weight',
    '.lora_magnitude_vector.default.weight': '.lora_magnitude_vector.weight',
}
_DOWN, _DOWN_WRITTEN = '.lora_A.default.weight', '.lora_A.weight'


def export_chat_native(source: str | Path, target: str | Path, *, merge: bool = True) -> ChatConversion:
    """Write the chat model of a training run as a folder of transformers' ``InternVLForConditionalGeneration``.

    Args:
        source: A training state, run folder or work_dir; the latest state counts.
        target: New folder.
        merge: Add adapters to the weights they adapt; otherwise ``adapter_model.safetensors`` lies beside the weights
            of before, and ``from_pretrained`` of transformers loads both.

    Returns:
        What became of the tensors, adapters apart.

    Raises:
        CheckpointError: There is no state of a chat model, the folder exists, or the layout cannot hold the model.
        ConfigError: There are no adapters to keep apart.
    """
    state, target = find_state(source), Path(target)
    check_target(target, 'chat-native')
    meta = read_meta(state)
    config = Config.fromstring(meta['config'], '.py')
    task = load_task(state, config, meta)
    # Copies, since the next line takes the adapters out of the model.
    adapters = None if merge else native_adapters(task)
    take_adapters_out(task.chat, merge=merge)
    target.parent.mkdir(parents=True, exist_ok=True)
    # By way of the published layout, so that one conversion serves trained and downloaded models, with its report.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix='.exporting-') as folder:
        published = Path(folder) / target.name
        write_published(task, config, meta, state, published)
        conversion = convert_chat(published, target, 'chat-native')
    card = model_card(state, config, meta, name=target.name, layout='chat-native')
    (target / 'README.md').write_text(card, encoding='utf-8')
    if adapters is not None:
        settings, tensors = adapters
        settings.save_pretrained(str(target))
        save_file(tensors, target / 'adapter_model.safetensors', {'format': 'pt'})
    return conversion


def native_adapters(task: ChatTuning) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Adapters of a task under the names of transformers' class, and peft's settings for them.

    Raises:
        ConfigError: There are none.
    """
    tuned = {name: part.adapters for name, part in task.parts.items() if part.adapters is not None}
    if not tuned:
        raise ConfigError('this run trained no adapters: there is nothing to keep apart')
    ranks: dict[str, int] = {}
    scales: dict[str, Any] = {}  # a fraction is fine, too
    tensors: dict[str, Tensor] = {}
    for part, adapters in tuned.items():
        for layer, name, tensor in _of_part(task, part):
            ranks[layer] = adapters.rank
            scales[layer] = 2 * adapters.rank if adapters.alpha is None else adapters.alpha
            tensors[f'base_model.model.{layer}{name}'] = tensor.contiguous().clone()
    first, dora = next(iter(ranks)), {adapters.dora for adapters in tuned.values()}
    if len(dora) > 1:
        raise ConfigError(
            'peft has one setting for all parts, but dora differs between them: write merged weights'
        )
    settings = LoraConfig(
        r=ranks[first],
        lora_alpha=scales[first],
        target_modules=sorted(ranks),
        # Only what differs: peft takes r and lora_alpha for every layer that no pattern names.
        rank_pattern={layer: rank for layer, rank in ranks.items() if rank != ranks[first]},
        alpha_pattern={layer: scale for layer, scale in scales.items() if scale != scales[first]},
        use_dora=dora.pop(),
        # As peft itself saves adapters: who loads them does not train them, unless asked to.
        inference_mode=True,
    )
    return settings, tensors


def _of_part(task: ChatTuning, part: str) -> Iterator[tuple[str, str, Tensor]]:
    """Native layer, end of the name in the file, and tensor, of all adapters of a part."""
    for inner, layer in getattr(task.chat, part).named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        state: dict[str, Tensor] = task.chat.get_submodule(f'{part}.{inner}').state_dict(prefix='.')
        weight = f'{part}.{inner}.weight'
        for end, written in _ROWS.items():
            if end not in state:
                continue
            # Rows of the layer, so that a joint projection is cut as its weight is.
            for name, rows in tensors_to_native({weight: state[end]}).items():
                native = name.removesuffix('.weight')
                yield native, written, rows
                if written == '.lora_B.weight':
                    yield native, _DOWN_WRITTEN, state[_DOWN]  # each cut of a joint layer reads the same A
