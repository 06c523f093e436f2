"""transformers' Auto classes and load_model run our code on published folders, and never the folder's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPImageProcessor

import internvl_mm
from internvl_mm.models import hf_intern_vit, hub
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.hf_intern_vit import InternVisionConfig, InternVisionModel
from internvl_mm.models.layers import attention
from internvl_mm.utils.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=56)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder."""
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'model')
    return tmp_path / 'model'


@pytest.fixture
def trap(folder: Path) -> tuple[Path, Path]:
    """A published folder with code of its own, and the marker file that code would leave."""
    marker = folder.parent / 'ran'
    (folder / 'trap.py').write_text(
        f'open({str(marker)!r}, "w").close()\n'
        'from transformers import PretrainedConfig as TrapConfig, PreTrainedModel as TrapModel\n'
    )
    auto_map = {'AutoConfig': 'trap.TrapConfig', 'AutoModel': 'trap.TrapModel'}
    edit(folder, auto_map=auto_map)
    return folder, marker


def edit(folder: Path, **changes) -> None:
    """Change settings of a folder's config.json; ``None`` removes one."""
    settings = json.loads((folder / 'config.json').read_text()) | changes
    kept = {name: value for name, value in settings.items() if value is not None}
    (folder / 'config.json').write_text(json.dumps(kept))


def test_a_folders_own_code_never_runs(trap: tuple[Path, Path]) -> None:
    folder, marker = trap
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    models = [
        AutoModel.from_pretrained(folder, trust_remote_code=True),
        AutoModel.from_pretrained(folder, trust_remote_code=True, config=config),
        AutoModel.from_pretrained(folder),
        internvl_mm.load_model(folder),
    ]
    assert type(config) is InternVisionConfig
    assert {type(model) for model in models} == {InternVisionModel}
    assert not marker.exists()


def test_a_folders_own_code_never_runs_with_the_oldest_transformers(
    trap: tuple[Path, Path], monkeypatch
) -> None:
    """Before 5.5 ``AutoConfig`` preferred the folder's code, so that we stand in front of it."""
    asked = []

    class OldAutoConfig:
        @staticmethod
        def from_pretrained(path, **kwargs):
            asked.append(kwargs)

    monkeypatch.setattr(hub, 'AutoConfig', OldAutoConfig)
    hub._prefer_registered_config()
    hub._prefer_registered_config()
    hub.AutoConfig.from_pretrained(trap[0], trust_remote_code=True)
    edit(trap[0], model_type='bert')
    hub.AutoConfig.from_pretrained(trap[0], trust_remote_code=True)
    assert asked == [dict(trust_remote_code=False), dict(trust_remote_code=True)]


def test_saving_and_loading_gives_the_same_model(trap: tuple[Path, Path], tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(trap[0], trust_remote_code=True)
    model.save_pretrained(tmp_path / 'saved')
    original, saved = (
        load_file(trap[0] / 'model.safetensors'),
        load_file(tmp_path / 'saved' / 'model.safetensors'),
    )
    assert original.keys() == saved.keys()
    assert all(torch.equal(original[name], saved[name]) for name in original)
    # a saved folder must not point at Python files it does not have
    assert 'auto_map' not in json.loads((tmp_path / 'saved' / 'config.json').read_text())
    assert internvl_mm.load_model(tmp_path / 'saved').config.to_dict().items() >= SIZES_OF_GOLDEN.items()


SIZES_OF_GOLDEN = dict(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=56, norm_type='rms_norm'
)


def test_the_folders_image_processor_is_transformers_own(folder: Path) -> None:
    processor = dict(
        image_processor_type='CLIPImageProcessor',
        size=448,
        crop_size=448,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
    loaded = AutoImageProcessor.from_pretrained(folder)
    assert isinstance(loaded, CLIPImageProcessor) or type(loaded).__name__.startswith('CLIPImageProcessor')
    assert loaded.image_mean == pytest.approx([0.485, 0.456, 0.406])


def test_config_defaults_are_the_published_classs() -> None:
    config = InternVisionConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (3200, 48, 25)
    assert (config.intermediate_size, config.image_size, config.patch_size) == (12800, 224, 14)
    assert (config.norm_type, config.qk_normalization, config.qkv_bias) == ('rms_norm', True, False)
    assert (config.layer_norm_eps, config.initializer_factor, config.use_flash_attn) == (1e-6, 0.1, True)


def test_a_config_without_norm_type_means_rms_norm(folder: Path) -> None:
    edit(folder, norm_type=None)
    assert AutoConfig.from_pretrained(folder).norm_type == 'rms_norm'
    assert internvl_mm.load_model(folder).config.norm_type == 'rms_norm'


def test_the_vision_part_of_a_whole_model_is_read(folder: Path) -> None:
    vision = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({'model_type': 'internvl_chat', 'vision_config': vision}))
    config = InternVisionConfig.from_pretrained(folder)
    assert (config.model_type, config.hidden_size) == ('intern_vit_6b', 64)


def test_the_vision_part_of_a_chat_checkpoint_loads_into_the_vision_model(folder: Path) -> None:
    tensors = load_file(folder / 'model.safetensors')
    prefixed = {f'vision_model.{name}': tensor for name, tensor in tensors.items()}
    save_file(
        {**prefixed, 'mlp1.0.weight': torch.ones(1)}, folder / 'model.safetensors', metadata={'format': 'pt'}
    )
    for model in (InternVisionModel.from_pretrained(folder), internvl_mm.load_model(folder)):
        assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize('setting', [dict(hidden_act='silu'), dict(dropout=0.1), dict(attention_dropout=0.1)])
def test_settings_nobody_published_are_refused(setting: dict) -> None:
    with pytest.raises(ConfigError, match='is not supported: InternViT was published with'):
        InternVisionConfig(**setting)


@pytest.mark.parametrize('setting', [dict(hidden_size='32'), dict(patch_size=0), dict(image_size=[56, 56])])
def test_a_damaged_config_is_told(folder: Path, setting: dict) -> None:
    edit(folder, **setting)
    with pytest.raises(ConfigError, match='is not possible: it must be a whole number from 1'):
        internvl_mm.load_model(folder)


def small_model(**settings) -> InternVisionModel:
    return InternVisionModel(InternVisionConfig(**SIZES, **settings)).eval()


def test_outputs_follow_the_published_class() -> None:
    model, pixels = small_model(), torch.randn(2, 3, 56, 84)
    output = model(pixels, output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 25, 32)
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])
    assert len(output.hidden_states) == 4
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert output.attentions is None
    assert model(pixels).hidden_states is None
    as_tuple = model(pixels, return_dict=False)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[1], output.pooler_output)
    from_embeddings = model(pixel_embeds=output.hidden_states[0])
    torch.testing.assert_close(from_embeddings.last_hidden_state, output.last_hidden_state)


def test_less_than_a_patch_at_the_border_is_left_out_as_published() -> None:
    model, pixels = small_model(), torch.randn(1, 3, 60, 97)
    whole_patches = model(pixels[..., :56, :84]).last_hidden_state
    assert torch.equal(model(pixels).last_hidden_state, whole_patches)


def test_the_model_and_the_backbone_are_one_definition() -> None:
    model, pixels = small_model(), torch.randn(1, 3, 56, 56)
    backbone = InternViT(**model.config.backbone_arguments()).eval()
    backbone.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(backbone(pixels).tokens, model(pixels).last_hidden_state)


def test_wrong_inputs_say_what_is_right() -> None:
    model = small_model()
    with pytest.raises(ValueError, match='give either pixel_values or pixel_embeds'):
        model()
    with pytest.raises(ValueError, match=r'pixel_values has shape \(3, 56, 56\): it must be \[B, 3, H, W\]'):
        model(torch.randn(3, 56, 56))


def test_positions_resize_and_the_config_notes_it() -> None:
    model, pixels = small_model(), torch.randn(1, 3, 84, 84)
    before = model(pixels).last_hidden_state
    model.resize_pos_embeddings(56, 84, 14)
    assert model.embeddings.position_embedding.shape == (1, 37, 32)
    assert model.config.image_size == 84
    torch.testing.assert_close(model(pixels).last_hidden_state, before)
    with pytest.raises(
        ConfigError, match=r'old_size=56 with patch_size=14 is not the size.*config.image_size is 84'
    ):
        model.resize_pos_embeddings(56, 84, 14)


def test_gradient_checkpointing_is_switched_as_everywhere_in_transformers() -> None:
    model = small_model()
    assert not model.encoder.gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.encoder.gradient_checkpointing
    model.train()(torch.randn(1, 3, 56, 56)).last_hidden_state.sum().backward()
    assert model.embeddings.class_embedding.grad is not None
    model.gradient_checkpointing_disable()
    assert not model.encoder.gradient_checkpointing


@pytest.mark.parametrize(
    ('use_flash_attn', 'implementation', 'kernel'),
    [(True, None, 'flash'), (False, None, 'sdpa'), (True, 'eager', 'eager'), (False, 'sdpa', 'sdpa')],
)
@pytest.mark.parametrize('installed', [True, False])
def test_attention_kernel_follows_the_config(
    monkeypatch, use_flash_attn: bool, implementation: str | None, kernel: str, installed: bool
) -> None:
    for module in (hf_intern_vit, attention):
        monkeypatch.setattr(module, 'flash_installed', lambda: installed)
    if kernel == 'flash' and not installed:
        kernel = 'sdpa'  # without a warning: all published folders ask for it
    config = InternVisionConfig(**SIZES, use_flash_attn=use_flash_attn)
    model = AutoModel.from_config(
        config, **({'attn_implementation': implementation} if implementation else {})
    )
    assert {layer.attn.kernel for layer in model.encoder.layers} == {kernel}


def test_attention_kernel_of_a_loaded_model_can_be_changed(folder: Path) -> None:
    model, pixels = internvl_mm.load_model(folder), torch.randn(1, 3, 28, 28)
    before = model(pixels).last_hidden_state
    model.set_attn_implementation('eager')
    assert {layer.attn.kernel for layer in model.encoder.layers} == {'eager'}
    torch.testing.assert_close(model(pixels).last_hidden_state, before)


def test_new_weights_follow_the_published_initialisation() -> None:
    model = small_model(initializer_factor=0.7)
    assert model.embeddings.position_embedding.std().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(model.encoder.layers[1].ls2, torch.full((32,), 0.7))
    assert model.encoder.layers[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.get_input_embeddings() is model.embeddings


def test_load_model_keeps_the_stored_dtype_unless_told(folder: Path) -> None:
    halved = {name: tensor.bfloat16() for name, tensor in load_file(folder / 'model.safetensors').items()}
    save_file(halved, folder / 'model.safetensors', metadata={'format': 'pt'})
    model = internvl_mm.load_model(folder)
    assert model.dtype == torch.bfloat16 and not model.training
    assert internvl_mm.load_model(folder, dtype='float32', device='cpu').dtype == torch.float32
    assert internvl_mm.load_model(folder, dtype=torch.float16).dtype == torch.float16
    with pytest.raises(
        CheckpointError, match="dtype='int8' is unknown: use 'float32', 'bfloat16' or 'float16'"
    ):
        internvl_mm.load_model(folder, dtype='int8')


def test_load_model_says_what_it_supports(folder: Path, tmp_path: Path) -> None:
    edit(folder, model_type='intern_vit')
    with pytest.raises(
        CheckpointError, match=r"type 'intern_vit'; supported: .*intern_vit_6b.*Did you mean 'intern_vit_6b'"
    ):
        internvl_mm.load_model(folder)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CheckpointError, match='has no config.json'):
        internvl_mm.load_model(tmp_path / 'empty')
    with pytest.raises(CheckpointError, match='is neither a folder nor a repository that can be downloaded'):
        internvl_mm.load_model('nobody/has-this-model')
    with pytest.raises(CheckpointError, match='is neither a folder nor a repository'):
        internvl_mm.load_model(tmp_path / 'not' / 'there')


def test_load_model_is_strict(folder: Path) -> None:
    tensors = load_file(folder / 'model.safetensors')
    del tensors['encoder.layers.2.ls1']
    save_file(tensors, folder / 'model.safetensors')
    with pytest.raises(CheckpointError, match='not in the file: encoder.layers.2.ls1'):
        internvl_mm.load_model(folder)


def test_hub_repositories_are_downloaded_without_their_code(folder: Path, monkeypatch) -> None:
    asked = {}

    def snapshot_download(name: str, **options) -> str:
        asked.update(name=name, **options)
        return str(folder)

    monkeypatch.setattr(hub, 'snapshot_download', snapshot_download)
    assert (
        internvl_mm.load_model('OpenGVLab/InternViT-6B-448px-V2_5', revision='main').config.hidden_size == 64
    )
    assert (asked['name'], asked['revision']) == ('OpenGVLab/InternViT-6B-448px-V2_5', 'main')
    assert not any(pattern.endswith('.py') or pattern == '*' for pattern in asked['allow_patterns'])


def test_dependencies_out_of_range_are_named(monkeypatch) -> None:
    monkeypatch.setattr(internvl_mm, 'version', lambda name: '4.57.1' if name == 'transformers' else '2.12.0')
    with pytest.raises(
        ImportError, match=r"needs transformers>=5.3,<6, but 4.57.1 is installed: pip install 'trans"
    ):
        internvl_mm._check_dependencies()
    monkeypatch.setattr(internvl_mm, 'version', lambda name: '5.9' if name == 'transformers' else '2.17.0')
    with pytest.warns(UserWarning, match='2.17.0 is installed and nobody has tried it yet'):
        internvl_mm._check_dependencies()

    def missing(name: str) -> str:
        raise internvl_mm.PackageNotFoundError(name)

    monkeypatch.setattr(internvl_mm, 'version', missing)
    with pytest.raises(ImportError, match='which is not installed: pip install'):
        internvl_mm._check_dependencies()
