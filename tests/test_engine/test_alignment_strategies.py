"""Contrastive and generative training by one process and by two with ZeRO: the same losses and parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.test_engine.two_alignment_processes import main
from tests.test_engine.two_processes import launch

STAGES = ('contrastive', 'generative')
SHARED = ('zero1', 'zero2', 'zero3')


@pytest.mark.slow
def test_two_processes_align_as_one_does(tmp_path: Path, repo: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    main(one, [f'{stage}-single' for stage in STAGES])
    names = [f'{stage}-{strategy}' for stage in STAGES for strategy in SHARED]
    launch(two, names, processes=2, repo=repo, module='two_alignment_processes')
    for name in names:
        alone = f'{name.partition("-")[0]}-single'
        expected, found = (
            json.loads((place).read_text()) for place in (one / f'{alone}.json', two / f'{name}.json')
        )
        assert len(expected) == 2
        # Features of both processes are gathered: half of the negatives of each process are the other's.
        assert found == pytest.approx(expected, abs=1e-4), name
        single, shared = load_file(one / f'{alone}.safetensors'), load_file(two / f'{name}.safetensors')
        assert shared.keys() == single.keys()
        for key, tensor in shared.items():
            torch.testing.assert_close(tensor, single[key], atol=1e-4, rtol=1e-3)
