"""A trained chat model as a published folder: weights, config, tokenizer and model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.target import check_target, written_whole
from internvl_mm.models.language.internlm2 import InternLM2Config
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tuning import dequantise
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError, ConfigError
from internvl_mm.utils.hashing import hash_tensors
from internvl_mm.utils.states import check_files, find_state, sound_state

from .checkpoint import FROZEN, frozen_differ, frozen_names, load_model, read_meta
from .config.checkpoint import forget_starts

_PARTS = ('vision_model', 'mlp1', 'language_model')
# Their ranks in a published config; a projector with adapters of its own has no place there.
_RANKS = dict(vision_model='use_backbone_lora', language_model='use_llm_lora')


def export_chat(source: str | Path, target: str | Path, *, merge: bool = True) -> Path:
    """Write the chat model of a training run as a folder that transformers and :func:`load_model` load.

    Args:
        source: A training state, run folder or work_dir; the latest state counts.
        target: New folder.
        merge: Add adapters to the weights they adapt; otherwise they stay beside them, as the published trainer
            leaves them, and :func:`load_model` merges them.

    Returns:
        The folder.

    Raises:
        CheckpointError: There is no state of a chat model, or the folder exists.
        ConfigError: Adapters that cannot be kept apart in the published layout.
    """
    state, target = find_state(source), Path(target)
    check_target(target, 'chat')
    meta = read_meta(state)
    # As it was when the run began, whatever became of the file since.
    config = Config.fromstring(meta['config'], '.py')
    task = load_task(state, config, meta)
    # Before merging, which takes the adapters out; also the check that they can be kept apart.
    ranks = dict.fromkeys(_RANKS, 0) if merge else adapter_ranks(task)
    # Copies: merging changes the weights in place.
    plain = {} if merge else {name: tensor.clone() for name, tensor in task.chat.state_dict().items()}
    take_adapters_out(task.chat)
    with written_whole(target) as partial:
        write_published(task, config, meta, state, partial)
        if not merge:
            _write_apart(partial, plain, ranks)
    return target


def write_published(
    task: ChatTuning, config: Config, meta: Mapping[str, Any], state: Path, target: Path
) -> None:
    """Write weights without adapters, config, tokenizer and model card of a task.

    Args:
        task: Without adapters.
        config: Of the run.
        meta: Of the state.
        state: Where both are from.
        target: The folder.
    """
    model = task.chat.to_published(**published_tiling(config))
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(target)
    task.tokenizer.save_pretrained(target)
    (target / 'README.md').write_text(model_card(state, config, meta, name=target.name), encoding='utf-8')


def load_task(state: Path, config: Config, meta: Mapping[str, Any]) -> ChatTuning:
    """The task of a training state with its weights, on the CPU.

    Raises:
        CheckpointError: The state is damaged, or of another task, or the frozen weights it leaves out are not there.
    """
    settings = config.model.to_dict()
    if FROZEN not in meta:
        # Everything is in the state: what training began with would be read for nothing, and may be gone.
        forget_starts(settings)
    task = MODELS.build(settings)
    if not isinstance(task, ChatTuning):
        raise CheckpointError(f'{state} is of {type(task).__name__}: only chat models are written as such')
    # It puts the adapters in, too, whose tensors the state names.
    task.init_weights()
    check_files(state)
    # A state of trainable parameters alone lacks the frozen ones, which init_weights has just read.
    found = task.load_state_dict(load_model(state), strict=FROZEN not in meta)
    if found.unexpected_keys:
        raise CheckpointError(f'{state}: {found.unexpected_keys[0]} has no place in the model of its config')
    if FROZEN in meta:
        _find_frozen(task, meta, state)
    # Adapters learned beside these values; merged into 4 bits again they would lose most of what they learned.
    dequantise(task.chat)
    return task.eval()


def _find_frozen(task: ChatTuning, meta: Mapping[str, Any], state: Path) -> None:
    names = frozen_names(task)

    def found() -> bool:
        tensors = task.state_dict()
        return hash_tensors({name: tensors[name] for name in names}) == meta[FROZEN]

    start = meta.get('frozen_from', {}).get('load_from')
    if not found() and start and Path(start).exists():
        # Neither the state nor the constructor has them: they came with the weights training started from.
        began = sound_state(start)
        if began and FROZEN in (earlier := read_meta(began)):
            _find_frozen(task, earlier, began)
        tensors = load_model(began) if began else open_weights(Path(start))
        task.load_state_dict({name: tensors[name] for name in names if name in tensors}, strict=False)
    if not found():
        raise frozen_differ(state, meta)


def take_adapters_out(model: nn.Module, *, merge: bool = True) -> None:
    """Take all adapters out, in place; with ``merge`` they are added to their weights before."""
    # A list, since modules are replaced on the way.
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            if merge:
                layer.merge()
            owner, _, last = name.rpartition('.')
            setattr(model.get_submodule(owner), last, layer.get_base_layer())


def adapter_ranks(task: ChatTuning) -> dict[str, int]:
    """Adapter ranks of the parts, checked against what the published layout can say.

    Raises:
        ConfigError: It cannot say them, or there are none.
    """
    ranks = dict.fromkeys(_RANKS, 0)
    for part in _PARTS:
        adapters = task.parts[part].adapters
        if adapters is None:
            continue
        # A published config keeps ranks alone: wrap_backbone_lora and wrap_llm_lora derive alpha = 2 x rank.
        why = None
        if part not in ranks:
            why = 'adapters of the projector'
        elif adapters.dora or adapters.alpha not in (None, 2 * adapters.rank):
            why = 'DoRA, or alpha other than twice the rank'
        elif part == 'language_model' and isinstance(task.chat.language_model.config, InternLM2Config):
            why = 'adapters of queries, keys and values, which InternLM2 keeps in one matrix'
        if why:
            raise ConfigError(f'the published layout has no place for {why}: write merged weights')
        ranks[part] = adapters.rank
    if not any(ranks.values()):
        raise ConfigError('this run trained no adapters: there is nothing to keep apart')
    return ranks


def _write_apart(target: Path, tensors: Mapping[str, Tensor], ranks: Mapping[str, int]) -> None:
    """Replace the merged weights of a folder by weights and adapters, under the published trainer's names."""
    # save_pretrained may have written several files and their index.
    for old in target.glob('*.safetensors*'):
        old.unlink()
    published = dict(_published_names(tensors, ranks))
    save_file(
        # safetensors refuses tensors with gaps, such as transposed views.
        {name: tensor.contiguous() for name, tensor in published.items()},
        target / 'model.safetensors',
        {'format': 'pt'},
    )
    file = target / 'config.json'
    settings = json.loads(file.read_text('utf-8'))
    # By these a reader sees that adapters are still to be merged.
    settings.update({_RANKS[part]: rank for part, rank in ranks.items()})
    file.write_text(json.dumps(settings, indent=2), 'utf-8')


def _published_names(tensors: Mapping[str, Tensor], ranks: Mapping[str, int]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        part, _, inner = name.partition('.')
        # What peft's wrapper puts around a model.
        yield (f'{part}.base_model.model.{inner}' if ranks.get(part) else name), tensor


def published_tiling(config: Config) -> dict[str, Any]:
    """How images were cut, as a published config says it.

    Raises:
        ConfigError: It has no word for it.
    """
    # However deep: packing and mixtures put other data sets around the one that reads images.
    encoder = _find(config.get('train_dataloader', {}), 'encoder') or {}
    tiling = encoder.get('tiling') or {}
    # The config of a state is text: parts go by their dotted names.
    kind = str(tiling.get('type', 'DynamicTiling')).rpartition('.')[2]
    if kind == 'CropTiling':
        raise ConfigError(
            'encoder.tiling is CropTiling, and the config of a chat folder has no word for it: whoever loads it '
            'would show the model other pictures. Train with DynamicTiling, PadTiling or SquashTiling'
        )
    if kind != 'DynamicTiling':
        # One tile per image, padded to a square or not.
        return dict(dynamic_image_size=False, use_thumbnail=False, pad2square=kind == 'PadTiling')
    # What the config leaves out is as DynamicTiling's constructor has it.
    return dict(
        dynamic_image_size=True,
        use_thumbnail=tiling.get('thumbnail', True),
        min_dynamic_patch=tiling.get('min_num', 1),
        max_dynamic_patch=tiling.get('max_num', 12),
    )


def _find(settings: Any, name: str) -> Any:
    """The first setting of a name, however deep."""
    if isinstance(settings, dict):
        if name in settings:
            return settings[name]
        settings = list(settings.values())
    if isinstance(settings, (list, tuple)):
        return next((found for value in settings if (found := _find(value, name)) is not None), None)
    return None


def model_card(
    state: Path,
    config: Config,
    meta: Mapping[str, Any],
    *,
    name: str,
    layout: Literal['chat', 'chat-native'] = 'chat',
) -> str:
    """The README of a folder: what it is, how it was trained, what it scores, how to talk to it."""
    optimizer = dict(config.get('optim_wrapper', {}).get('optimizer', {}))
    facts = {
        'experiment': meta.get('experiment_name'),
        'iterations': meta.get('iter'),
        'processes': meta.get('world_size'),
        'batch per process': config.get('train_dataloader', {}).get('batch_size'),
        'learning rate': optimizer.get('lr'),
        'weight decay': optimizer.get('weight_decay'),
        'seed': meta.get('seed'),
        'training data': _find(config.get('train_dataloader', {}), 'meta')
        or _find(config.get('train_dataloader', {}), 'annotation')
        or _find(config.get('train_dataloader', {}), 'name'),
        'versions': ', '.join(f'{key} {value}' for key, value in meta.get('versions', {}).items()),
    }
    rows = ''.join(f'| {key} | {value} |\n' for key, value in facts.items() if value is not None)
    # <run folder>/checkpoints/<state>; a state that was copied elsewhere has no results beside it.
    file = state.parent.parent / 'results.json'
    results = json.loads(file.read_text('utf-8')) if file.is_file() else []
    # The file is that of the last evaluation, which may have come after this state.
    scores = ''.join(
        f'| {row["benchmark"]} | {row["metric"]} | {row["value"]:.2f} | {row["n"]} |\n'
        for row in results
        if row['iter'] == meta.get('iter')
    )
    table = (
        f'## Results\n\n| benchmark | metric | value | n |\n|---|---|---|---|\n{scores}\n' if scores else ''
    )
    use = _USE[layout].format(name=name)
    return _CARD.format(name=name, rows=rows, results=table, use=use)


_CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [internvl]
---

# {name}

A chat model of InternVL's architecture, trained with internvl_mm.

## Training

| setting | value |
|---|---|
{rows}
{results}## Use

```python
{use}```
"""

_USE = {
    'chat': """import internvl_mm
from transformers import AutoModel, AutoTokenizer

path = '{name}'
model = AutoModel.from_pretrained(path).eval()
tokenizer = AutoTokenizer.from_pretrained(path)
print(model.chat(tokenizer, None, 'Who are you?', dict(max_new_tokens=64, do_sample=False)))
""",
    'chat-native': """from transformers import AutoModelForImageTextToText, AutoProcessor

path = '{name}'
model, processor = AutoModelForImageTextToText.from_pretrained(path), AutoProcessor.from_pretrained(path)
messages = [dict(role='user', content=[dict(type='text', text='Who are you?')])]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt'
)
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)[0, inputs['input_ids'].shape[1] :]
print(processor.decode(answer, skip_special_tokens=True))
""",
}
