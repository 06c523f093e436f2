"""InternVL-14B: loading, both image paths, captions; QLLaMA against a plain implementation of the published rules."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, InternVLConfig, InternVLModel

import internvl_mm
from internvl_mm.engine.config import load_config
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.connectors import QueryGlue
from internvl_mm.models.connectors.qllama import QLlamaQueries, joint_mask
from internvl_mm.models.convert.internvl_14b import load_internvl_14b
from internvl_mm.models.hf_internvl_14b import InternVL14BConfig, InternVL14BModel
from internvl_mm.models.internvl_14b import InternVL14B, count_trainable, part_of
from internvl_mm.models.text_encoders import LlamaTextEncoder
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'internvl_14b_tiny'
VISION = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=28)
LLAMA = dict(vocab_size=40, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24)


def small(*, queries: int = 5, frequency: int = 2, seed: int = 0, **options) -> InternVL14B:
    torch.manual_seed(seed)
    model = InternVL14B(
        vision=VISION,
        qllama=LLAMA,
        num_query_token=queries,
        cross_attention_frequency=frequency,
        clip_embed_dim=8,
        attn_pool_num_heads=2,
        **options,
    )
    with torch.no_grad():  # large enough that every part shows
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


# an implementation of the published description with nothing but products and loops


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, sees: Tensor | None) -> Tensor:
    parts = []
    for one_q, one_k, one_v in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = one_q @ one_k.transpose(-1, -2) / math.sqrt(one_q.shape[-1])
        if sees is not None:
            scores = scores.masked_fill(~sees, float('-inf'))
        parts.append(scores.softmax(-1) @ one_v)
    return torch.cat(parts, -1)


def rotate(x: Tensor, heads: int) -> Tensor:
    out = []
    for head in x.chunk(heads, -1):
        half = head.shape[-1] // 2
        angles = torch.arange(len(x))[:, None] / 10000 ** (torch.arange(half) / half)
        a, b = head[:, :half], head[:, half:]
        out.append(torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1))
    return torch.cat(out, -1)


def plain_qllama(model: InternVL14BModel, x: Tensor, sees: Tensor, vision: Tensor | None) -> Tensor:
    """One sequence ``[n, D]`` through the layers; the first Q positions look at ``[N, V]`` in every k-th layer."""
    config, heads = model.config.qllama_config, LLAMA['num_attention_heads']
    weights = {
        name.removeprefix('qllama.model.'): tensor
        for name, tensor in model.state_dict().items()
        if name.startswith('qllama.model.')
    }
    for index in range(LLAMA['num_hidden_layers']):
        layer = {
            name.removeprefix(f'layers.{index}.'): tensor
            for name, tensor in weights.items()
            if name.startswith(f'layers.{index}.')
        }
        h = rms(x, layer['input_layernorm.weight'])
        q, k, v = (h @ layer[f'self_attn.{part}_proj.weight'].T for part in 'qkv')
        mixed = softmax_attention(rotate(q, heads), rotate(k, heads), v, heads, sees)
        x = x + mixed @ layer['self_attn.o_proj.weight'].T
        if vision is not None and index % config.cross_attention_frequency == 0:
            count = config.num_query_token
            q = rms(x[:count], layer['cross_attn.norm1.weight']) @ layer['cross_attn.q_proj.weight'].T
            seen = rms(vision, layer['cross_attn.norm2.weight'])
            k, v = (seen @ layer[f'cross_attn.{part}_proj.weight'].T for part in 'kv')
            looked = softmax_attention(q, k, v, heads, None) @ layer['cross_attn.o_proj.weight'].T
            x = torch.cat([x[:count] + looked, x[count:]])
        h = rms(x, layer['post_attention_layernorm.weight'])
        gate, up = (h @ layer[f'mlp.{part}_proj.weight'].T for part in ('gate', 'up'))
        x = x + (F.silu(gate) * up) @ layer['mlp.down_proj.weight'].T
    return rms(x, weights['norm.weight'])


def sees(kind: str, queries: int, text: int) -> Tensor:
    """The published masks by their definition, without padding."""
    total = queries + text
    table = torch.zeros(total, total, dtype=torch.bool)
    for row in range(total):
        for column in range(total):
            both_queries, both_text = max(row, column) < queries, min(row, column) >= queries
            from_text = row >= queries > column
            table[row, column] = (
                kind == 'matching'
                or both_queries
                or (both_text and column <= row)
                or (from_text and kind == 'generation')
            )
    return table


@pytest.mark.parametrize(('queries', 'frequency'), [(5, 2), (3, 1), (7, 3)])
@torch.no_grad()
def test_qllama_is_the_published_description(queries: int, frequency: int) -> None:
    model = small(queries=queries, frequency=frequency)
    vision, ids = torch.randn(2, 5, 24), torch.tensor([[1, 7, 9, 2], [1, 8, 4, 2]])
    kinds = ('matching', 'contrast', 'generation')
    found = model.joint_states(vision, [(ids, kind) for kind in kinds])
    for kind, (query_states, text_states) in zip(kinds, found, strict=True):
        for image in range(2):
            x = torch.cat([model.query_tokens[0], model.get_input_embeddings()(ids[image])])
            expected = plain_qllama(model, x, sees(kind, queries, 4), vision[image])
            states = torch.cat([query_states[image], text_states[image]])
            torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
    alone = plain_qllama(model, model.query_tokens[0], sees('matching', queries, 0), vision[1])
    torch.testing.assert_close(model.query_states(vision)[1], alone, atol=1e-4, rtol=1e-4)
    text = plain_qllama(model, model.get_input_embeddings()(ids[0]), sees('generation', 0, 4), None)
    torch.testing.assert_close(model.get_text_features(ids)[0], text, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        model.encode_text(ids)[0], text[3] @ model.text_projection, atol=1e-4, rtol=1e-4
    )


def test_padding_is_seen_by_nobody() -> None:
    allowed = joint_mask(torch.tensor([[True, True, False]]), 2, 'matching')[0]
    assert not allowed[:, 4].any() and allowed[:, :4].all()


@torch.no_grad()
def test_padding_changes_no_embedding() -> None:
    model, ids = small(), torch.tensor([[1, 7, 9, 2]])
    torch.testing.assert_close(model.encode_text(F.pad(ids, (0, 3))), model.encode_text(ids))


@torch.no_grad()
def test_text_padded_at_the_left_is_refused() -> None:
    model, ids = small(), torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
    model.encode_text(ids)
    with pytest.raises(DataError, match="padding_side = 'right'"):
        model.encode_text(torch.tensor([[1, 5, 6, 2], [0, 1, 7, 2]]))


def test_g_is_the_sum_of_two_unit_vectors_and_sees_the_image() -> None:
    model, pixels = small(), torch.randn(2, 3, 28, 28)
    vision, queries = model.get_image_features(pixels)
    parts = [
        F.normalize(model.clip_projector(vision), dim=1),
        F.normalize(model.clip_projector2(queries), dim=1),
    ]
    torch.testing.assert_close(model.encode_image(pixels, 'InternVL-G'), sum(parts))
    assert not torch.allclose(queries[0], queries[1])
    with pytest.raises(ConfigError, match="mode='InternVL-H' is unknown.*Did you mean 'InternVL-"):
        model.encode_image(pixels, 'InternVL-H')


def test_one_prompt_for_several_images_is_told() -> None:
    model, prompt = small(), torch.tensor([[1, 5, 6]])
    with pytest.raises(
        DataError, match=r'1 prompts for 2 images: give one per image, such as input_ids\.expand'
    ):
        model.generate(torch.randn(2, 3, 28, 28), prompt)


@torch.no_grad()
def test_captions_are_those_of_the_whole_sequence_at_every_step() -> None:
    """Greedy with the cache, against the plain implementation run on everything again for each token."""
    model, pixels = small(seed=3), torch.randn(1, 3, 28, 28)
    prompt, vision = torch.tensor([[1, 5, 6]]), model.vision_states(pixels)
    ids = prompt
    for _ in range(5):
        x = torch.cat([model.query_tokens[0], model.get_input_embeddings()(ids[0])])
        states = plain_qllama(model, x, sees('generation', 5, ids.shape[1]), vision[0])
        scores = model.qllama.lm_head(states[-1])
        scores[2] = float('-inf')  # no end
        ids = torch.cat([ids, scores.argmax().view(1, 1)], dim=1)
    new = model.generate(pixels, prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert new.tolist() == ids[:, 3:].tolist()


# loading


def test_the_published_snippet_and_transformers_own_internvl_work_in_one_process(tmp_path: Path) -> None:
    native = InternVLConfig(
        text_config=dict(model_type='qwen2', hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=2, intermediate_size=16, vocab_size=20),
        vision_config=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16),
    )  # fmt: skip
    InternVLModel(native).save_pretrained(tmp_path / 'native')
    theirs = AutoModel.from_pretrained(tmp_path / 'native')
    ours = AutoModel.from_pretrained(GOLDEN, trust_remote_code=True, dtype=torch.float32)
    assert type(theirs) is InternVLModel and type(ours) is InternVL14BModel
    assert type(AutoConfig.from_pretrained(tmp_path / 'native')) is InternVLConfig
    assert type(AutoConfig.for_model('internvl')) is InternVLConfig
    assert type(AutoConfig.for_model('internvl', qllama_config=LLAMA)) is InternVL14BConfig
    with pytest.raises(CheckpointError, match="transformers' own layout.*AutoModelForImageTextToText"):
        internvl_mm.load_model(tmp_path / 'native')


def test_a_folder_can_be_saved_and_loaded_again(tmp_path: Path) -> None:
    model = small(queries=3)
    model.save_pretrained(tmp_path)
    again = internvl_mm.load_model(tmp_path)
    pixels = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(
        again.encode_image(pixels, 'InternVL-G'), model.encode_image(pixels, 'InternVL-G')
    )
    assert again.config.qllama_config.cross_attention_positions == 3


def test_constants_of_the_published_code_are_told_by_the_weights(tmp_path: Path) -> None:
    """A folder without our settings, whose cross-attention is as wide as its ViT."""
    model = small(queries=3)
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / 'config.json').read_text())
    for name in ('cross_attention_width', 'cross_attention_positions'):
        del settings['qllama_config'][name]
    (tmp_path / 'config.json').write_text(json.dumps(settings))
    again = internvl_mm.load_model(tmp_path)
    pixels = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(
        again.encode_image(pixels, 'InternVL-G'), model.encode_image(pixels, 'InternVL-G')
    )


def test_another_size_resamples_positions_or_takes_them_as_they_are(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / 'model')
    settings = json.loads((GOLDEN / 'config.json').read_text())
    (tmp_path / 'model' / 'config.json').write_text(json.dumps({**settings, 'force_image_size': 84}))
    resized = internvl_mm.load_model(tmp_path / 'model')
    assert resized.vision_model.embeddings.position_embedding.shape[1] == 1 + 6 * 6
    resized.save_pretrained(tmp_path / 'again')
    kept = internvl_mm.load_model(tmp_path / 'again')
    pixels = torch.randn(1, 3, 84, 84)
    assert torch.equal(kept.encode_image(pixels, 'InternVL-C'), resized.encode_image(pixels, 'InternVL-C'))


@pytest.mark.parametrize('change', ['missing', 'extra', 'shape'])
def test_weights_that_do_not_fit_are_told(tmp_path: Path, change: str) -> None:
    shutil.copytree(GOLDEN, tmp_path / 'model')
    tensors = load_file(GOLDEN / 'model.safetensors')
    name = 'clip_projector2.cross_attn.q_bias'
    if change == 'missing':
        del tensors[name]
    else:
        tensors[name + '_' if change == 'extra' else name] = torch.zeros(3)
    save_file(tensors, tmp_path / 'model' / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(CheckpointError, match='clip_projector2.cross_attn.q_bias'):
        internvl_mm.load_model(tmp_path / 'model')


def original_names(model: InternVL14BModel) -> dict[str, Tensor]:
    """The tensors of InternVL-C under the names of the original file."""
    renamed = {}
    for name, tensor in model.state_dict().items():
        if (
            name.startswith(('query_tokens', 'clip_projector2.', 'itm_head.', 'qllama.lm_head.'))
            or 'cross_attn.norm' in name
        ):
            continue
        if 'qllama' in name and 'cross_attn' in name:
            continue
        name = name.replace('vision_model.encoder.layers.', 'blocks.').replace(
            'qllama.model.', 'transformer.'
        )
        name = name.replace('vision_model.embeddings.class_embedding', 'cls_token')
        name = name.replace('vision_model.embeddings.position_embedding', 'pos_embed')
        name = name.replace('vision_model.embeddings.patch_embedding', 'patch_embed.proj')
        name = name + '.gamma' if name.endswith(('.ls1', '.ls2')) else name
        renamed[name] = tensor.clone()
    return renamed


def test_the_original_internvl_c_file_starts_the_generative_stage(tmp_path: Path) -> None:
    source, file = small(seed=1), tmp_path / 'internvl_c.pth'
    torch.save(dict(module=original_names(source)), file)
    started = small(seed=2, pretrained=str(file))
    new_before = started.query_tokens.clone()
    started.init_weights()
    pixels, ids = torch.randn(2, 3, 28, 28), torch.tensor([[1, 7, 2]])
    torch.testing.assert_close(
        started.encode_image(pixels, 'InternVL-C'), source.encode_image(pixels, 'InternVL-C')
    )
    torch.testing.assert_close(started.encode_text(ids), source.encode_text(ids))
    assert torch.equal(started.query_tokens, new_before), 'what the file lacks starts new'
    with pytest.raises(CheckpointError, match='missing.*clip_projector2'):
        load_internvl_14b(small(), file)


# what trains

STAGE_2 = ('queries', 'cross_attention', 'query_pool', 'matching_head', 'temperature')


def test_what_trains_in_the_generative_stage() -> None:
    model = small(trainable=STAGE_2)
    trained = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(STAGE_2)
    assert not model.train().vision_model.training
    with pytest.raises(ConfigError, match="'querys' is no part.*Did you mean 'queries'"):
        small(trainable=('querys',))
    with pytest.raises(ConfigError, match='nothing would train'):
        small(trainable=())


def test_adapters_start_without_effect_train_alone_and_merge(tmp_path: Path) -> None:
    plain = small(seed=1)
    plain.save_pretrained(tmp_path / 'plain')
    adapted = small(
        seed=2,
        pretrained=str(tmp_path / 'plain'),
        trainable=('text_projection',),
        vision_lora=2,
        qllama_lora=3,
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if '.lora_B.' in name:
                parameter.zero_()
    adapted.init_weights()
    pixels, ids = torch.randn(1, 3, 28, 28), torch.tensor([[1, 7, 2]])
    torch.testing.assert_close(adapted(pixels, ids, 'InternVL-G'), plain(pixels, ids, 'InternVL-G'))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all('.lora_' in name or name == 'text_projection' for name in trained)
    assert not any('cross_attn' in name for name in trained), 'as published'
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if '.lora_' in name:
                parameter.normal_(std=0.1)
    save_file(
        {name: tensor.contiguous() for name, tensor in adapted.state_dict().items()},
        tmp_path / 'lora.safetensors',
    )
    merged = small(seed=3)
    load_internvl_14b(merged, tmp_path / 'lora.safetensors')
    torch.testing.assert_close(merged(pixels, ids, 'InternVL-G'), adapted.eval()(pixels, ids, 'InternVL-G'))


def test_published_sizes() -> None:
    aligner = load_config('_base_/models/internvl_14b_224px.py').aligner
    with torch.device('meta'):
        model = MODELS.build(aligner)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes['qllama.model.layers.30.cross_attn.k_proj.weight'] == (4096, 3200)
    assert 'qllama.model.layers.31.cross_attn.k_proj.weight' not in shapes
    assert shapes['text_projection'] == (4096, 768) and shapes['query_tokens'] == (1, 96, 4096)
    assert shapes['clip_projector.cross_attn.proj.weight'] == (768, 3200)
    # By hand: ViT, Llama, cross-attention, two pools, queries, projection, matching head, temperature. The published
    # folder of 27.7 GB in half precision holds as many.
    llama = 2 * 49954 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
    cross = 16 * (2 * 4096**2 + 2 * 4096 * 3200 + 4096 + 3200)
    pools = sum(9 * width + 3 * width**2 + (width + 1) * 768 for width in (3200, 4096))
    heads = 96 * 4096 + 4096 * 768 + 2 * 4097 + 1
    by_hand = 5_902_793_600 + llama + cross + pools + heads
    assert count_trainable(model)[1] == sum(map(math.prod, shapes.values())) == by_hand == 13_834_975_747


# glue of the chat variant


def test_queries_as_connector_are_those_of_the_model() -> None:
    model = small(queries=3)
    glue = QLlamaQueries(24, num_queries=3, qllama=LLAMA)
    own = {name: model.state_dict()[name] for name in glue.state_dict()}
    glue.load_state_dict(own, strict=True)
    vision = torch.randn(2, 5, 24)
    torch.testing.assert_close(glue(vision), model.query_states(vision))
    assert (glue.tokens_per_tile, glue.out_dim) == (3, 16)
    both = QueryGlue(24, 10, grid=2, query_former=glue)
    assert both(vision).shape == (2, 3 + 4, 10) and both.tokens_per_tile == 7
    assert not any(parameter.requires_grad for parameter in glue.parameters())


def test_the_vit_alone_is_taken_from_every_file(tmp_path: Path) -> None:
    """The original InternVL-C file, a published folder, a checkpoint of a task."""
    source = small(seed=1)
    torch.save(original_names(source), tmp_path / 'internvl_c.pth')
    source.save_pretrained(tmp_path / 'folder')
    torch.save(
        dict(state_dict={f'model.{name}': tensor for name, tensor in source.state_dict().items()}),
        tmp_path / 'task.pth',
    )
    pixels = torch.randn(1, 3, 28, 28)
    for name in ('internvl_c.pth', 'folder', 'task.pth'):
        backbone = InternViT(**VISION, pretrained=str(tmp_path / name)).eval()
        backbone.init_weights()
        torch.testing.assert_close(backbone(pixels).tokens, source.vision_states(pixels))


def test_misspelt_settings_of_towers_are_told() -> None:
    problems = InternVL14B.check_config(vision=dict(hiden_size=3), qllama=dict(vocabsize=3))
    assert [problem.split('.')[:2] for problem in problems] == [
        ['vision', 'hiden_size: no setting is called so'],
        ['qllama', 'vocabsize: no setting is called so'],
    ]
    assert "Did you mean 'hidden_size'" in problems[0]
    assert LlamaTextEncoder.check_config(llama=LLAMA, out_dim=3) == []
    assert QLlamaQueries.check_config(qllama=dict(LLAMA, rope=1), num_queries=3) != []
