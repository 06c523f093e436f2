"""Published probes under their original names: same numbers as the parts, and errors that name what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from internvl_mm.engine.strategies import SingleDeviceStrategy
from internvl_mm.models.convert import from_hf
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling, ClipProjector, ClsPatchConcat
from internvl_mm.models.tasks import build_published_probe
from internvl_mm.utils.errors import CheckpointError, ConfigError

ARGUMENTS = dict(
    img_size=28,
    embed_dim=24,
    num_heads=3,
    mlp_ratio=2,
    depth=2,
    num_classes=5,
    attn_pool_num_heads=4,
    clip_embed_dim=8,
)
TARGETS = {
    'cls_patch_concat': ClsPatchConcat,
    'attention_pooling': AttentionPooling,
    'clip_projector': ClipProjector,
}


def published_weights(**arguments: Any) -> dict[str, Tensor]:
    """Random weights in the original layout, made independently of the loader's table of names."""
    torch.manual_seed(0)
    width, blocks = 24, range(arguments.get('depth', 2))
    shapes = {
        'embeddings.class_embedding': (1, 1, width),
        'embeddings.position_embedding': (1, 5, width),
        'embeddings.patch_embedding.weight': (width, 3, 14, 14),
        'embeddings.patch_embedding.bias': (width,),
    }
    for i in blocks:
        shapes |= {
            f'encoder.layers.{i}.{tail}': (width,) for tail in ('norm1.weight', 'norm2.weight', 'ls1', 'ls2')
        }
        shapes |= {f'encoder.layers.{i}.attn.{part}_norm.weight': (width,) for part in 'qk'}
        layers = {'attn.proj': (width, width), 'mlp.fc1': (2 * width, width), 'mlp.fc2': (width, 2 * width)}
        for layer, shape in layers.items():
            shapes |= {
                f'encoder.layers.{i}.{layer}.weight': shape,
                f'encoder.layers.{i}.{layer}.bias': shape[:1],
            }
        shapes[f'encoder.layers.{i}.attn.qkv.weight'] = (3 * width, width)
    backbone = from_hf({name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}, 'pth')
    target = arguments.get('cls_target', 'cls_patch_concat')
    out = dict(cls_patch_concat=2 * width, attention_pooling=width, clip_projector=8)[target]
    extra = {'norm.weight': (out,), 'norm.bias': (out,), 'norm.running_mean': (out,)}
    extra |= {'head.weight': (5, out), 'head.bias': (5,)}
    pool = {'attention_pooling': 'attn_pooling', 'clip_projector': 'clip_projector'}.get(target)
    if pool:
        for part in 'qkv':
            extra |= {f'{pool}.norm1_{part}.{tail}': (width,) for tail in ('weight', 'bias')}
            extra |= {
                f'{pool}.cross_attn.{part}.weight': (width, width),
                f'{pool}.cross_attn.{part}_bias': (width,),
            }
        extra |= {f'{pool}.cross_attn.proj.weight': (out, width), f'{pool}.cross_attn.proj.bias': (out,)}
    drawn = {name: torch.randn(shape) for name, shape in extra.items()}
    statistics = {'norm.running_var': torch.rand(out) + 0.5, 'norm.num_batches_tracked': torch.tensor(3)}
    return backbone | drawn | statistics


@pytest.mark.parametrize('target', TARGETS)
def test_every_target_wires_neck_and_head(target: str) -> None:
    arguments = ARGUMENTS | dict(cls_target=target)
    weights = published_weights(**arguments)
    task = build_published_probe(arguments, weights)
    pixels = torch.randn(2, 3, 28, 28)
    # the head by hand, on the neck's features
    features = task.neck(task.backbone(pixels))
    normed = (features - weights['norm.running_mean']) / (weights['norm.running_var'] + 1e-6).sqrt()
    normed = normed * weights['norm.weight'] + weights['norm.bias']
    expected = normed @ weights['head.weight'].T + weights['head.bias']
    assert isinstance(task.neck, TARGETS[target]) and isinstance(task.head, LinearClsHead)
    assert_close(task.head(task.extract(pixels)), expected, rtol=1e-4, atol=1e-4)
    assert not task.training


@pytest.mark.parametrize('target', TARGETS)
def test_a_classifier_saved_by_published_training_is_evaluated_whole(target: str, tmp_path: Path) -> None:
    arguments = ARGUMENTS | dict(cls_target=target)
    weights = published_weights(**arguments)
    expected, task = (build_published_probe(arguments, weights) for _ in range(2))
    for parameter in task.parameters():
        torch.nn.init.zeros_(parameter)
    if target != 'clip_projector':  # the original 224px file carries it for every kind
        projector = published_weights(cls_target='clip_projector')
        weights |= {name: tensor for name, tensor in projector.items() if name.startswith('clip_projector.')}
    torch.save(dict(model=weights), tmp_path / 'ckpt_epoch_9.pth')
    strategy = SingleDeviceStrategy(precision='fp32', work_dir=str(tmp_path))
    strategy.prepare(task)
    strategy.load_checkpoint(str(tmp_path / 'ckpt_epoch_9.pth'))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(task.state_dict()[name], tensor), name


@pytest.mark.parametrize(('target', 'heads'), [('attention_pooling', 3), ('clip_projector', 4)])
def test_heads_of_the_pools(target: str, heads: int) -> None:
    """The trainable pool has the backbone's number of heads, only the projector has its own."""
    arguments = ARGUMENTS | dict(cls_target=target)
    assert (
        build_published_probe(arguments, published_weights(**arguments)).neck.pool.cross_attn.num_heads
        == heads
    )


def test_projector_tensors_of_the_original_file_are_left_aside_by_other_probes() -> None:
    weights = published_weights()
    projector = published_weights(cls_target='clip_projector')
    weights |= {name: tensor for name, tensor in projector.items() if name.startswith('clip_projector.')}
    assert isinstance(build_published_probe(ARGUMENTS, weights).neck, ClsPatchConcat)


def test_layer_norms_of_blocks_are_also_those_of_queries_and_keys() -> None:
    weights = published_weights()
    tails = ('norm1.weight', 'norm2.weight', 'q_norm.weight', 'k_norm.weight')
    norms = [name for name in weights if name.startswith('blocks.') and name.endswith(tails)]
    assert len(norms) == 2 * 4
    weights |= {name.replace('.weight', '.bias'): torch.randn(24) for name in norms}
    probe = build_published_probe(ARGUMENTS | dict(norm_type='ln'), weights)
    attention = probe.backbone.encoder.layers[0].attn
    for norm, key in ((attention.q_norm, 'q_norm'), (attention.k_norm, 'k_norm')):
        assert isinstance(norm, torch.nn.LayerNorm)
        assert norm.eps == 1e-6
        assert torch.equal(norm.bias, weights[f'blocks.0.attn.{key}.bias'])


def test_arguments_without_effect_are_accepted() -> None:
    probe = build_published_probe(ARGUMENTS | dict(use_flash_attn=True, with_cp=False), published_weights())
    assert probe.num_classes == 5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(embed_dims=24), r"'embed_dims' is no argument .* Did you mean 'embed_dim'"),
        (dict(norm_type='layer'), r"norm_type='layer': .* rms and ln"),
        (dict(cls_target='mean'), r"cls_target='mean' is unknown: use 'cls_patch_concat'"),
        (dict(head_norm_type='rms'), r"head_norm_type='rms': .* bn and ln"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_published_probe(ARGUMENTS | arguments, published_weights())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=3), r"missing: \['backbone\.encoder\.layers\.2"),
        (dict(depth=1), r"unexpected: \['backbone\.encoder\.layers\.1"),
        (dict(num_classes=7), r'head\.linear\.weight \(5, 48\) instead of \(7, 48\)'),
        (dict(cls_target='attention_pooling'), r"missing: \['neck\.pool"),
    ],
)
def test_weights_of_another_probe(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_published_probe(ARGUMENTS | arguments, published_weights())


def test_head_alone_loads_from_its_file(tmp_path: Path) -> None:
    """As ``intern_vit_6b_224px_head.pth``: norm and head under the key ``model``."""
    weights = {
        name: tensor for name, tensor in published_weights().items() if name.startswith(('norm.', 'head.'))
    }
    torch.save(dict(model=weights), tmp_path / 'head.pth')
    head = LinearClsHead(48, 5, pretrained=str(tmp_path / 'head.pth'))
    head.init_weights()
    assert_close(head.linear.weight, weights['head.weight'], rtol=0, atol=0)
    assert_close(head.norm.running_var, weights['norm.running_var'], rtol=0, atol=0)


def test_projector_loads_from_the_whole_file(tmp_path: Path) -> None:
    weights = published_weights(cls_target='clip_projector')
    save_file(weights, tmp_path / 'model.safetensors')
    neck = ClipProjector(24, num_heads=4, out_dim=8, pretrained=str(tmp_path))
    neck.init_weights()
    assert_close(neck.pool.cross_attn.q.weight, weights['clip_projector.cross_attn.q.weight'], rtol=0, atol=0)


def test_file_without_the_part(tmp_path: Path) -> None:
    save_file(published_weights(), tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match=r'missing: \[.*pool\.cross_attn'):
        ClipProjector(24, num_heads=4, out_dim=8, pretrained=str(tmp_path)).init_weights()
