"""What one stage of InternVL-14B hands to the next."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import internvl_mm
from internvl_mm.engine.config import load_config, set_checkpoint
from internvl_mm.engine.strategies import SingleDeviceStrategy
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.connectors import QLlamaQueries, QueryGlue
from internvl_mm.models.necks import AttentionPooling, ClsPatchProjector
from internvl_mm.models.tasks import ContrastivePretraining, RetrievalFinetuning
from internvl_mm.models.text_encoders import LlamaTextEncoder
from internvl_mm.preprocess.caption_tokens import DigitSceneTokenizer
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_models.test_internvl_14b import LLAMA, VISION, original_names, small


@pytest.mark.parametrize(
    ('image_pool', 'neck'),
    [
        ('attention', dict(type=AttentionPooling, num_heads=2, out_dim=8)),
        ('cls_patch', dict(type=ClsPatchProjector, out_dim=8)),
    ],
)
def test_a_checkpoint_of_the_first_stage_starts_the_second(
    tmp_path: Path, image_pool: str, neck: dict
) -> None:
    torch.manual_seed(0)
    first = ContrastivePretraining(
        backbone=InternViT(**VISION),
        neck=neck,
        text_encoder=dict(type=LlamaTextEncoder, llama=dict(LLAMA, rms_norm_eps=1e-6)),
        tokenizer=DigitSceneTokenizer(),
    )
    first.init_weights()
    torch.save(dict(state_dict=first.eval().state_dict()), tmp_path / 'stage_1.pth')
    second = small(pretrained=str(tmp_path / 'stage_1.pth'), image_pool=image_pool)
    second.init_weights()
    pixels, ids = torch.randn(2, 3, 28, 28), torch.tensor([[1, 7, 9, 2]])
    torch.testing.assert_close(second.encode_image(pixels, 'InternVL-C'), first.encode_images(pixels))
    torch.testing.assert_close(second.encode_text(ids), first.encode_ids(ids))
    assert second.logit_scale == first.criterion.logit_scale
    # The second hands a folder on that says its pool.
    second.save_pretrained(tmp_path / 'stage_2')
    loaded = internvl_mm.load_model(tmp_path / 'stage_2').eval()
    for mode in ('InternVL-C', 'InternVL-G'):
        torch.testing.assert_close(loaded.encode_image(pixels, mode), second.encode_image(pixels, mode))


def test_a_checkpoint_of_the_second_stage_feeds_the_chat_model(tmp_path: Path) -> None:
    """ViT and queries of a chat model are those of the stage; both as checkpoint and as published folder."""
    source, pixels = small(queries=3, seed=1), torch.randn(1, 3, 28, 28)
    torch.save(
        dict(state_dict={f'model.{name}': tensor for name, tensor in source.state_dict().items()}),
        tmp_path / 'task.pth',
    )
    source.save_pretrained(tmp_path / 'folder')
    for name in ('task.pth', 'folder'):
        start = str(tmp_path / name)
        former = dict(type=QLlamaQueries, num_queries=3, qllama=LLAMA, pretrained=start)
        vit, glue = (
            InternViT(**VISION, pretrained=start).eval(),
            QueryGlue(24, 10, grid=2, query_former=former),
        )
        vit.init_weights()
        glue.init_weights()
        tokens = vit(pixels).tokens
        torch.testing.assert_close(
            glue.query_former(tokens), source.query_states(source.vision_states(pixels))
        )
    with pytest.raises(CheckpointError, match='query_tokens'):
        QLlamaQueries(24, num_queries=4, qllama=LLAMA, pretrained=str(tmp_path / 'folder')).init_weights()


def load(task: torch.nn.Module, file: Path) -> None:
    strategy = SingleDeviceStrategy(precision='fp32', work_dir=str(file.parent))
    strategy.prepare(task)
    strategy.load_checkpoint(str(file))
    task.eval()


def test_published_weights_go_into_the_tasks_of_their_stage(tmp_path: Path) -> None:
    source, pixels, ids = small(seed=1), torch.randn(2, 3, 28, 28), torch.tensor([[1, 7, 9, 2]])
    torch.save(dict(module=original_names(source)), tmp_path / 'internvl_c.pth')
    source.save_pretrained(tmp_path / 'folder')
    torch.manual_seed(0)
    first = ContrastivePretraining(
        backbone=InternViT(**VISION),
        neck=dict(type=AttentionPooling, num_heads=2, out_dim=8),
        text_encoder=dict(type=LlamaTextEncoder, llama=dict(LLAMA, rms_norm_eps=1e-6)),
        tokenizer=DigitSceneTokenizer(),
    )
    load(first, tmp_path / 'internvl_c.pth')
    torch.testing.assert_close(first.encode_images(pixels), source.encode_image(pixels, 'InternVL-C'))
    torch.testing.assert_close(first.encode_ids(ids), source.encode_text(ids))
    assert first.criterion.logit_scale == source.logit_scale
    tokenizer = DigitSceneTokenizer()
    tokenizer.vocab_size = LLAMA['vocab_size']
    third = RetrievalFinetuning(model=small(seed=2), tokenizer=tokenizer)
    load(third, tmp_path / 'folder')
    torch.testing.assert_close(third.encode_images(pixels), source.encode_image(pixels, 'InternVL-G'))
    with pytest.raises(CheckpointError, match='query_tokens'):
        load(third, tmp_path / 'internvl_c.pth')
    torch.save({f'more.{name}': tensor for name, tensor in first.state_dict().items()}, tmp_path / 'odd.pth')
    with pytest.raises(CheckpointError, match='no backbone of its own'):
        load(third, tmp_path / 'odd.pth')


@pytest.mark.parametrize(('mode', 'setting'), [('C', 'model.model.pretrained'), ('G', 'load_from')])
def test_the_original_file_of_internvl_c_is_evaluated_in_its_mode(mode: str, setting: str) -> None:
    cfg = load_config('zero_shot/imagenet1k', [f'model.image_mode=InternVL-{mode}'])
    set_checkpoint(cfg, 'internvl_c_13b_224px.pth')
    found = {
        'model.model.pretrained': cfg.model.model.get('pretrained'),
        'load_from': cfg.get('load_from'),
    }
    assert [name for name, value in found.items() if value == 'internvl_c_13b_224px.pth'] == [setting]


def test_layer_wise_rates_are_the_published_ones() -> None:
    """Exponents of the rate 0.9: 49 to 0 in a ViT of 48 layers, 33 to 0 in a QLLaMA of 32; here of 1 and 4 layers."""
    task = RetrievalFinetuning(model=small(), tokenizer=SimpleNamespace(vocab_size=40))
    exponents = {
        name: (part, last - depth)
        for name, (part, depth, last) in ((name, task.layer_of(name)) for name, _ in task.named_parameters())
    }
    assert exponents['model.vision_model.embeddings.class_embedding'] == ('vision', 2)
    assert exponents['model.vision_model.encoder.layers.0.ls1'] == ('vision', 1)
    assert exponents['model.clip_projector.cross_attn.q_bias'] == ('vision', 0)
    for name in ('query_tokens', 'logit_scale', 'qllama.model.embed_tokens.weight'):
        assert exponents[f'model.{name}'] == ('qllama', 5)
    assert exponents['model.qllama.model.layers.3.mlp.up_proj.weight'] == ('qllama', 1)
    for name in (
        'text_projection',
        'itm_head.bias',
        'qllama.lm_head.weight',
        'clip_projector2.norm1_q.weight',
    ):
        assert exponents[f'model.{name}'] == ('qllama', 0)


def test_unknown_pools_are_told() -> None:
    with pytest.raises(ConfigError, match="image_pool='mean': use 'attention' or 'cls_patch'"):
        small(image_pool='mean')
