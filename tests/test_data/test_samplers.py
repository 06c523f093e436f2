from __future__ import annotations

import itertools
import multiprocessing
import pickle

import pytest
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from internvl_mm.data import samplers
from internvl_mm.data.samplers import EpochSampler, EvalSampler, SampleIndex, StreamSampler
from internvl_mm.utils.errors import ConfigError

SAMPLERS = (EpochSampler, StreamSampler, EvalSampler)


def on_ranks(monkeypatch, kind: type, size: int, world_size: int, **options) -> list:
    """One sampler per process of a run with ``world_size`` processes."""
    made = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        made.append(kind(range(size), **options))
    return made


def global_batches(made: list, batch: int, count: int) -> list[set[int]]:
    """The first ``count`` global batches of ``batch`` samples as sets."""
    local = batch // len(made)
    streams = [iter(sampler) for sampler in made]
    return [{index for stream in streams for index in itertools.islice(stream, local)} for _ in range(count)]


@pytest.mark.parametrize('kind', [EpochSampler, StreamSampler])
@pytest.mark.parametrize('world_size', [2, 4, 8])
def test_global_batches_do_not_depend_on_the_number_of_processes(monkeypatch, kind: type, world_size: int):
    alone = global_batches(on_ranks(monkeypatch, kind, 101, 1, seed=3), 16, 6)
    assert global_batches(on_ranks(monkeypatch, kind, 101, world_size, seed=3), 16, 6) == alone
    assert all(len(batch) == 16 for batch in alone)


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(range(30), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert sorted(order(0, 1)) == list(range(30))
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize(('size', 'world_size'), [(10, 1), (10, 3), (11, 4), (8, 8)])
def test_training_shares_are_equal_and_disjoint(monkeypatch, size: int, world_size: int):
    shares = [list(sampler) for sampler in on_ranks(monkeypatch, EpochSampler, size, world_size, seed=0)]
    assert {len(share) for share in shares} == {size // world_size}
    seen = list(itertools.chain.from_iterable(shares))
    assert len(seen) == len(set(seen)) == size // world_size * world_size


@pytest.mark.parametrize(('size', 'world_size'), [(3, 2), (7, 3), (5, 5), (4, 7)])
def test_stream_is_epoch_after_epoch_without_gaps(monkeypatch, size: int, world_size: int):
    streams = [iter(sampler) for sampler in on_ranks(monkeypatch, StreamSampler, size, world_size, seed=0)]
    merged = [next(streams[position % world_size]) for position in range(4 * size)]
    for epoch in range(4):
        part = merged[epoch * size : (epoch + 1) * size]
        assert sorted(part) == list(range(size))
        assert {index.epoch for index in part} == {epoch}


@pytest.mark.parametrize('kind', SAMPLERS)
@pytest.mark.parametrize('rank', [0, 1])
def test_a_resumed_run_sees_what_it_would_have_seen(monkeypatch, kind: type, rank: int):
    whole = list(itertools.islice(on_ranks(monkeypatch, kind, 40, 2, seed=5)[rank], 20))
    resumed = on_ranks(monkeypatch, kind, 40, 2, seed=5)[rank]
    resumed.skip(12)
    assert list(itertools.islice(resumed, 8)) == whole[12:]
    assert list(itertools.islice(resumed, 20)) == whole  # the next epoch begins at its beginning


def test_stream_resumes_across_epochs():
    whole = list(itertools.islice(StreamSampler(range(7), seed=1), 30))
    resumed = StreamSampler(range(7), seed=1)
    resumed.skip(23)
    rest = list(itertools.islice(resumed, 7))
    assert rest == whole[23:] and [index.epoch for index in rest] == [index.epoch for index in whole[23:]]


def test_mmengines_iteration_loop_resumes_without_reading_what_was_seen():
    class Counted(EpochsSeen):
        read = 0

        def __getitem__(self, index: SampleIndex) -> int:
            self.read += 1
            return int(index)

    def batches() -> tuple[Counted, _InfiniteDataloaderIterator]:
        data = Counted()
        return data, _InfiniteDataloaderIterator(DataLoader(data, 2, sampler=StreamSampler(data, seed=0)))

    _, whole = batches()
    expected = [next(whole).tolist() for _ in range(10)]
    data, resumed = batches()
    resumed.skip_iter(7)
    assert [next(resumed).tolist() for _ in range(3)] == expected[7:]
    assert data.read == 6


def test_an_epoch_cannot_skip_more_than_it_has():
    with pytest.raises(ConfigError, match='cannot skip 11 samples of an epoch of 10.*StreamSampler'):
        EpochSampler(range(10), seed=0).skip(11)


@pytest.mark.parametrize('size', [1, 5, 12, 13])
@pytest.mark.parametrize('world_size', [1, 2, 3, 8])
def test_evaluation_counts_every_sample_once(monkeypatch, size: int, world_size: int):
    shares = [list(sampler) for sampler in on_ranks(monkeypatch, EvalSampler, size, world_size)]
    assert len({len(share) for share in shares}) == 1  # equal numbers of steps
    assert {index for share in shares for index in share} == set(range(size))
    # what mmengine's BaseMetric does with the shares: interleave, then cut at the length of the data set
    assert list(itertools.chain.from_iterable(zip(*shares)))[:size] == list(range(size))


def test_sample_index_is_an_int_that_survives_the_way_to_a_worker():
    index = pickle.loads(pickle.dumps(SampleIndex(5, 3, 9)))
    assert (index, index.epoch, index.seed) == (5, 3, 9) and 'abcdef'[index] == 'f'
    other = index.to(2)
    assert (other, other.epoch, other.seed) == (2, 3, 9)


class EpochsSeen:
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: SampleIndex) -> tuple[int, int, str]:
        return int(index), index.epoch, multiprocessing.current_process().name


def test_persistent_workers_learn_the_epoch():
    sampler = EpochSampler(EpochsSeen(), seed=0)
    loader = DataLoader(
        EpochsSeen(), sampler=sampler, batch_size=2, num_workers=1, persistent_workers=True, collate_fn=list
    )
    workers = set()
    for epoch in range(2):
        sampler.set_epoch(epoch)
        items = list(itertools.chain.from_iterable(loader))
        assert {seen for _, seen, _ in items} == {epoch}
        assert [index for index, _, _ in items] == list(sampler)
        workers |= {worker for _, _, worker in items}
    assert len(workers) == 1 and 'MainProcess' not in workers


def test_mmengines_hook_sets_the_epoch():
    class Runner:
        epoch = 4

        class train_loop:
            dataloader = DataLoader(range(4), sampler=EpochSampler(range(4), seed=0), batch_size=2)

    DistSamplerSeedHook().before_train_epoch(Runner)
    assert Runner.train_loop.dataloader.sampler.epoch == 4


def test_an_empty_data_set_and_too_many_processes_are_refused(monkeypatch):
    for kind in SAMPLERS:
        with pytest.raises(ConfigError, match='data set is empty'):
            kind([], seed=0)
    with pytest.raises(ConfigError, match='3 samples cannot be shared by 4 processes'):
        on_ranks(monkeypatch, EpochSampler, 3, 4, seed=0)
