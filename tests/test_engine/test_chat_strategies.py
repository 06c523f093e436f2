"""Fine-tuning of a chat model by one process and by two with ZeRO: same losses, parameters, answers, resumption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.test_engine.two_chat_processes import main
from tests.test_engine.two_processes import launch

SHARED = ['zero1', 'zero2', 'zero3']


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_resume_exactly(tmp_path: Path, repo: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    main(one, ['single'])
    launch(two, SHARED, processes=2, repo=repo, module='two_chat_processes')
    expected, single = json.loads((one / 'single.json').read_text()), load_file(one / 'single.safetensors')
    assert len(expected['losses']) == 4 and expected['resumed'] == expected['losses']
    for name in SHARED:
        found, tensors = (
            json.loads((two / f'{name}.json').read_text()),
            load_file(two / f'{name}.safetensors'),
        )
        assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)
        assert found['resumed'] == found['losses']
        assert tensors.keys() == single.keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, single[key], atol=2e-5, rtol=1e-3)
        assert found['metrics']['digit_chat/n'] == expected['metrics']['digit_chat/n'] == 9
