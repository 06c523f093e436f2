"""Timing in turns, ratios with intervals, and the listing of benchmarks."""

import pytest
import torch

from benchmarks import harness, run


def test_rounds_are_interleaved_and_warm_up_is_not_counted():
    order = []
    seconds = harness.interleave(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, rounds=2, warmup=1
    )
    assert ''.join(order) == 'abbaab'
    assert {name: len(times) for name, times in seconds.items()} == dict(a=2, b=2)


def test_ratio_above_one_means_we_are_faster():
    ratio, low, high = harness.ratio_of_medians([2.0, 2.2, 2.1], [1.0, 1.1, 1.05])
    assert ratio == pytest.approx(2.0)
    assert low <= ratio <= high
    # Equal rounds leave no doubt.
    assert harness.ratio_of_medians([3.0] * 5, [2.0] * 5) == (1.5, 1.5, 1.5)


def test_row_of_a_comparison():
    row = harness.compare('cell', {'ours': [1.0] * 3, 'peer': [4.0] * 3}, 'peer', goal=2.0)
    assert (row.ours, row.theirs, row.ratio, row.goal) == (1.0, 4.0, 4.0, 2.0)
    assert row.as_dict()['peer'] == 'peer'


def test_product_rate_counts_two_operations_per_multiply_add():
    assert 1e8 < harness.matmul_rate(torch.float32, size=256) < 1e15


def _held(megabytes: int) -> int:
    with harness.ExtraMemory() as extra:
        bytearray(megabytes * 2**20)  # freed at once: what counts is the highest
    return extra.bytes


def test_memory_of_a_block_in_a_process_of_its_own():
    assert 0.9 < harness.in_new_process(_held, 200) / (200 * 2**20) < 1.1


def test_every_benchmark_says_what_it_claims():
    names = run.available()
    assert {'vit_speed', 'probe_sweep', 'cold_start', 'gpu_inference'} <= names.keys()
    assert all(len(line) > 30 for line in names.values())


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(['vit_spede'])
    assert ended.value.code == 2
    assert 'vit_speed' in capsys.readouterr().err
