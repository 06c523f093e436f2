"""Bad samples leave the batch and enter the account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.engine.hooks import BadSampleHook
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import ConfigError, DataError

from .conftest import pictures


def broken(index: int) -> BadSample:
    return BadSample('noise', index, f'{index}.png', 'truncated file')


def test_written_and_removed_from_the_batch(make_runner):
    samples = pictures(9)
    samples[3] = broken(3)
    seen = []

    class Spy(BadSampleHook):
        priority = 'LOWEST'

        def before_run(self, runner):
            pass

        def _before_iter(self, runner, batch_idx, data_batch=None, mode='train'):
            seen.append((sorted(data_batch), len(data_batch['inputs'])))

    runner = make_runner(BadSampleHook(), Spy(), samples=samples)
    runner.train()
    assert seen == [
        (['data_samples', 'inputs'], 3),
        (['data_samples', 'inputs'], 2),
        (['data_samples', 'inputs'], 3),
    ]
    (line,) = (Path(runner.log_dir) / 'bad_samples.jsonl').read_text().splitlines()
    assert json.loads(line) == dict(dataset='noise', index=3, path='3.png', reason='truncated file')


def test_stops_above_the_rate(make_runner):
    samples = pictures(9)
    samples[3] = broken(3)
    with pytest.raises(DataError, match='1 of 6 samples are bad'):
        make_runner(BadSampleHook(max_fraction=0.1, patience=0), samples=samples).train()


@pytest.mark.parametrize('setting', [dict(max_fraction=-0.1), dict(max_fraction=2.0), dict(patience=-1)])
def test_values_without_a_meaning_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        BadSampleHook(**setting)
