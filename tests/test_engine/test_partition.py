"""Optimiser states put together and cut again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from internvl_mm.engine.partition import Segment, convert_state, cut_states, join_states, read_shards
from internvl_mm.engine.trees import save_tree
from internvl_mm.utils.errors import CheckpointError

SIZES = dict(a=6, b=3)
MOMENTS = dict(a=torch.arange(6.0), b=torch.arange(10.0, 13.0))


def flat_shards() -> list[dict]:
    """Two processes with one flat tensor of 5 each, padded: [a0 … a4], [a5 b0 b1 b2 –]."""
    step = torch.tensor(7.0)
    flats = [torch.tensor([0.0, 1, 2, 3, 4]), torch.tensor([5.0, 10, 11, 12, 99])]
    segments = [[[0, 0, 'a', 0, 5]], [[0, 0, 'a', 5, 1], [0, 1, 'b', 0, 3]]]
    return [
        dict(
            optimizer=dict(state={0: dict(exp_avg=flat, step=step)}, param_groups=[dict(lr=0.5, params=[0])]),
            segments=cut,
        )
        for flat, cut in zip(flats, segments)
    ]


def test_flat_pieces_become_whole_parameters_and_rows() -> None:
    whole = dict(join_states(flat_shards(), SIZES))
    torch.testing.assert_close({name: kept['exp_avg'] for name, kept in whole.items()}, MOMENTS)
    assert {float(kept['step']) for kept in whole.values()} == {7.0}
    # By parameters, b first.
    parameters = [Segment(1, 0, 'a', 0, 6), Segment(0, 0, 'b', 0, 3)]
    found = cut_states(whole.items(), parameters, {0: (3,), 1: (2, 3)})
    assert torch.equal(found[1]['exp_avg'], MOMENTS['a'].view(2, 3))
    assert torch.equal(found[0]['exp_avg'], MOMENTS['b'])
    # The second of three processes with flat tensors of 4: [a4 a5 b0 b1].
    found = cut_states(whole.items(), [Segment(0, 0, 'a', 4, 2), Segment(0, 2, 'b', 0, 2)], {0: (4,)})
    assert found[0]['exp_avg'].tolist() == [4, 5, 10, 11]
    assert float(found[0]['step']) == 7


def test_parameters_without_dimensions_are_cut_as_others() -> None:
    # One process: a temperature, whose moments have no dimensions either, beside a vector.
    state = {
        0: dict(exp_avg=torch.tensor(5.0), step=torch.tensor(7.0)),
        1: dict(exp_avg=torch.arange(3.0), step=torch.tensor(7.0)),
    }
    single = dict(optimizer=dict(state=state), segments=[(0, 0, 'number', 0, 1), (1, 0, 'vector', 0, 3)])
    segments = [Segment(0, 0, 'vector', 1, 2), Segment(0, 2, 'number', 0, 1)]
    flat = cut_states(join_states([single], dict(number=1, vector=3)), segments, {0: (4,)})
    assert flat[0]['exp_avg'].tolist() == [1, 2, 5, 0] and float(flat[0]['step']) == 7
    # And back.
    shard = dict(optimizer=dict(state=flat), segments=segments)
    segments = [Segment(0, 0, 'number', 0, 1)]
    back = cut_states(join_states([shard], dict(number=1, vector=3)), segments, {0: ()})
    assert torch.equal(back[0]['exp_avg'], torch.tensor(5.0)) and float(back[0]['step']) == 7


def test_states_on_disk_are_converted(tmp_path: Path) -> None:
    for rank, shard in enumerate(flat_shards()):
        save_tree(tmp_path, f'shard.rank{rank}', shard)
    options = dict(segments=[Segment(0, 0, 'b', 0, 3)], shapes={0: (3,)}, sizes=SIZES)
    found = convert_state(tmp_path, groups=[dict(lr=9.0, params=[0])], **options)
    assert found['param_groups'] == [dict(lr=0.5, params=[0])]
    assert torch.equal(found['state'][0]['exp_avg'], MOMENTS['b'])
    with pytest.raises(CheckpointError, match='1 groups of parameters, here 2.*same optim_wrapper'):
        convert_state(tmp_path, groups=[dict(params=[0]), dict(params=[])], **options)
    with pytest.raises(CheckpointError, match='the optimiser state has a, which is not in the model'):
        convert_state(tmp_path, groups=[dict(params=[0])], **dict(options, sizes=dict(b=3)))


def test_what_cannot_be_converted_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='holds no optimiser that can be converted'):
        read_shards(tmp_path)
    save_tree(tmp_path, 'optimizer', dict(state={}, param_groups=[]))
    with pytest.raises(CheckpointError, match='the strategy and the number of processes it was written with'):
        read_shards(tmp_path)
