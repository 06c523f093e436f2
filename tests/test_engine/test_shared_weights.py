"""Strategies that share out weights: who builds the model with values, what each process writes, who can read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from internvl_mm.data.digit_scenes import DigitSceneSettings, write_digit_scenes
from internvl_mm.engine.checkpoint import FROZEN, load_hook_states, load_model, read_meta
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies.start import describe, make_room, without_values
from internvl_mm.engine.trees import save_tensors
from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.files import ShareFiles, like, stored_dtype
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import MODEL_SHARES, check_files
from tests.test_engine.tiny import tiny_model
from tests.test_engine.two_processes import launch
from tests.test_engine.two_shared_processes import STEPS, config_for, main
from tools.convert import main as convert

SHARED = ('zero3', 'fsdp2')
TASKS = (
    'classification',
    'segmentation',
    'detection',
    'contrastive',
    'generative',
    'chat',
    'lora',
    'preference',
)
ODD = ('averaged', 'published', 'growing', 'looking', 'counting', 'refusing', 'caching', 'packed')


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """Each case by two processes over gloo, with whole weights and with shared ones."""
    folder = tmp_path_factory.mktemp('shared') / 'runs'
    write_digit_scenes(folder.parent / 'scenes', settings=DigitSceneSettings(train_size=32, test_size=5))
    torch.manual_seed(5)
    backbone = MODELS.build(tiny_model()['backbone'])
    backbone.init_weights()
    save_file(backbone.state_dict(), folder.parent / 'vit.safetensors')
    for cases in (TASKS[:4], TASKS[4:], ODD):
        names = [f'{case}-{strategy}' for case in cases for strategy in SHARED]
        names += [f'{case}-zero2' for case in cases if case in (*TASKS, 'averaged', 'published', 'packed')]
        names += ['packed-ddp'] if 'packed' in cases else []
        # ZeRO-3 has no averages.
        launch(
            folder,
            [name for name in names if name != 'averaged-zero3'],
            processes=2,
            repo=repo,
            module='two_shared_processes',
            timeout=900,
        )
    return folder


def result(folder: Path, case: str, strategy: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    name = f'{case}-{strategy}'
    return json.loads((folder / f'{name}.json').read_text()), load_file(folder / f'{name}.safetensors')


def state_of(folder: Path, case: str, strategy: str, *, step: int = STEPS) -> Path:
    [state] = (folder / f'{case}-{strategy}').glob(f'*/checkpoints/iter_{step:06d}')
    return state


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
@pytest.mark.parametrize('case', TASKS)
def test_the_first_process_alone_starts_with_values(runs: Path, case: str, strategy: str) -> None:
    (expected, whole), (found, tensors) = (result(runs, case, name) for name in ('zero2', strategy))
    assert found['empty'] == [False, True] and expected['empty'] == [False, False]
    # Four steps, of which two after a resumption from shares; of segmentation two: test_segmentation_runs resumes it.
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)
    assert found['metrics'] == pytest.approx(expected['metrics'], abs=1e-4)
    assert tensors.keys() == whole.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, whole[key], atol=1e-4, rtol=1e-3)
    # Random numbers go on as where every process drew the weights.
    assert found['random'] == expected['random']


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_buffers_and_ties_are_those_of_the_first_process(runs: Path, tmp_path: Path, strategy: str) -> None:
    main(tmp_path, ['caching-single'])
    (expected, whole), (found, tensors) = (
        result(tmp_path, 'caching', 'single'),
        result(runs, 'caching', strategy),
    )
    assert found['empty'] == [False, True]
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)
    assert torch.equal(tensors['twin.weight'], tensors['head.linear.weight'])
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, whole[key], atol=1e-5, rtol=1e-4)
    assert tensors['temperature'].ndim == 0 and tensors['temperature'] != 1.5


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
@pytest.mark.parametrize(
    ('case', 'why'),
    [
        ('growing', 'init_structure does not do it: started is True with it, None without'),
        ('looking', 'meta'),
        ('counting', 'meta'),
    ],
)
def test_what_cannot_be_built_without_values_is_built_whole(
    runs: Path, case: str, why: str, strategy: str
) -> None:
    found, expected = result(runs, case, strategy)[0], result(runs, 'classification', 'zero2')[0]
    assert found['empty'] == [False, False] and why in found['why']
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_published_weights_of_a_backbone_are_shared_out(runs: Path, strategy: str) -> None:
    expected, found = (result(runs, 'published', name)[0] for name in ('zero2', strategy))
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)
    assert found['losses'] != pytest.approx(result(runs, 'classification', 'zero2')[0]['losses'], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_what_the_first_process_refuses_is_told_by_all(runs: Path, strategy: str) -> None:
    told = json.loads((runs / f'refusing-{strategy}.json').read_text())
    assert told == dict(told=['these weights do not fit'] * 2)


@pytest.mark.slow
def test_weights_in_few_bits_are_whole_on_every_process_or_refused(runs: Path) -> None:
    for strategy in SHARED:
        [first, second] = json.loads((runs / f'packed-{strategy}.json').read_text())['told']
        assert first == second and 'packed in few bits' in first and 'zero2.py' in first
    expected, found = (result(runs, 'packed', strategy)[0] for strategy in ('ddp', 'zero2'))
    # Of which two after a resumption.
    assert len(found['losses']) == 2 * STEPS
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_states_of_shares_are_read_as_whole_ones(runs: Path, tmp_path: Path, strategy: str) -> None:
    state, whole = state_of(runs, 'classification', strategy), result(runs, 'classification', strategy)[1]
    assert {file.name for file in state.glob('model*')} == {
        MODEL_SHARES,
        'model.rank0.safetensors',
        'model.rank1.safetensors',
    }
    # Nobody wrote much more than half.
    sizes = [(state / f'model.rank{rank}.safetensors').stat().st_size for rank in range(2)]
    assert max(sizes) < 0.6 * sum(sizes)
    for tensors in (load_model(state), open_weights(state), open_weights(state.parent)):
        assert tensors.keys() == whole.keys()
        assert not [name for name in whole if not torch.equal(tensors[name], whole[name])]
    # The door's way to one file.
    assert convert([str(state), str(tmp_path / 'model.safetensors'), '--to', 'safetensors']) == 0
    single = load_file(tmp_path / 'model.safetensors')
    assert not [name for name in whole if not torch.equal(single[name], whole[name])]
    # One process evaluates it.
    config = config_for('classification', 'single', tmp_path, load_from=str(state), launcher='none')
    metrics = Runner.from_cfg(config).test()
    assert metrics == pytest.approx(result(runs, 'classification', strategy)[0]['metrics'], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_damaged_shares_are_refused(runs: Path, tmp_path: Path, strategy: str) -> None:
    state = tmp_path / 'iter_000002'
    shutil.copytree(state_of(runs, 'classification', strategy), state)
    (state / 'model.rank1.safetensors').unlink()
    for read in (check_files, load_model, open_weights):
        with pytest.raises(CheckpointError, match='model.rank1.safetensors is missing'):
            read(state)
    index = json.loads((state / MODEL_SHARES).read_text())
    (state / MODEL_SHARES).write_text(json.dumps(dict(index, files=index['files'][:1])))
    tensors = load_model(state)
    with pytest.raises(CheckpointError, match='values in all instead of'):
        tensors['head.linear.weight']


@pytest.mark.slow
@pytest.mark.parametrize('strategy', SHARED)
def test_frozen_weights_stay_out_of_shares(runs: Path, strategy: str) -> None:
    state, tensors = state_of(runs, 'lora', strategy), result(runs, 'lora', strategy)[1]
    kept = load_model(state)
    assert kept.keys() < tensors.keys() and all('lora_' in name or 'mlp1' in name for name in kept)
    # The content hash of what was left out does not depend on who held it.
    assert read_meta(state)[FROZEN] == read_meta(state_of(runs, 'lora', 'zero2'))[FROZEN]


@pytest.mark.slow
def test_averages_of_shares_are_those_of_whole_weights(runs: Path, tmp_path: Path) -> None:
    found, expected = (result(runs, 'averaged', name)[0] for name in ('fsdp2', 'zero2'))
    assert found['metrics'] == pytest.approx(expected['metrics'], abs=1e-4)
    assert found['metrics']['tiny/ema/loss'] != found['metrics']['tiny/loss']
    state, whole = (state_of(runs, 'averaged', name, step=2 * STEPS) for name in ('fsdp2', 'zero2'))
    average, other = (load_hook_states(place)['ema'] for place in (state, whole))
    assert average.keys() == other.keys()
    for name in average:
        torch.testing.assert_close(average[name], other[name], atol=1e-5, rtol=1e-4)
    # One process goes on from it.
    config = config_for('averaged', 'single', tmp_path, resume=str(state), launcher='none')
    Runner.from_cfg(config).train()


def test_modules_without_values_keep_ties_and_buffers() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            own = nn.Parameter(torch.ones(2), requires_grad=False)
            own.note = 'kept'
            self.one, self.two = own, own
            self.norm = nn.BatchNorm1d(3)

    before = torch.get_rng_state()
    with without_values():
        model = Tied()
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.second.weight is model.first.weight and model.one is model.two
    assert not model.one.requires_grad and model.one.note == 'kept'
    assert torch.equal(model.norm.running_var, torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        make_room(parameter)
    # Whoever held a parameter holds it still.
    held = [parameter for group in optimizer.param_groups for parameter in group['params']]
    assert [id(p) for p in held] == [id(p) for p in model.parameters()]
    assert not any(parameter.is_meta for parameter in held) and model.one.note == 'kept'
    assert not nn.Linear(2, 2).weight.is_meta


def test_models_are_described_by_all_that_has_to_be_equal() -> None:
    model, other = (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)) for _ in range(2))
    assert describe(model) == describe(other)
    other[1].p = 0.2
    assert set(describe(model).items()) ^ set(describe(other).items()) == {('1.p', '0.1'), ('1.p', '0.2')}
    other[1].p = 0.1
    other[0].bias.requires_grad_(False)
    assert describe(model) != describe(other)


def test_shares_are_put_together_in_order_of_the_processes(tmp_path: Path) -> None:
    shapes = dict(matrix=(3, 2), number=(), half=(2,), nothing=(0, 3))
    shares = [dict(matrix=torch.arange(4.0), number=torch.ones(1)), dict(matrix=torch.tensor([4.0, 5.0]))]
    shares[1]['half'] = torch.ones(2, dtype=torch.bfloat16)
    shares[0]['nothing'] = torch.ones(0)
    for rank, values in enumerate(shares):
        save_tensors(tmp_path / f'model.rank{rank}.safetensors', values)
    files = [f'model.rank{rank}.safetensors' for rank in range(2)]
    (tmp_path / MODEL_SHARES).write_text(json.dumps(dict(files=files, shapes=shapes)))
    tensors = ShareFiles(tmp_path / MODEL_SHARES)
    assert torch.equal(tensors['matrix'], torch.arange(6.0).view(3, 2))
    assert tensors['number'].shape == () and tensors['nothing'].shape == (0, 3)
    assert stored_dtype(tensors) == torch.float32
    assert (like(tensors, 'half').dtype, like(tensors, 'half').shape) == (torch.bfloat16, (2,))
    (tmp_path / MODEL_SHARES).write_text(json.dumps(dict(files=files, shapes=dict(shapes, lost=(1,)))))
    for read in (ShareFiles.__getitem__, like):
        with pytest.raises(CheckpointError, match='no file has a share of lost'):
            read(ShareFiles(tmp_path / MODEL_SHARES), 'lost')
    (tmp_path / MODEL_SHARES).write_text(json.dumps(dict(files=['../model.safetensors'], shapes=shapes)))
    with pytest.raises(CheckpointError, match='shards must lie beside the index'):
        ShareFiles(tmp_path / MODEL_SHARES)
