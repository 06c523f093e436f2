"""The recorded outputs of the published implementation, through the door users have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from internvl_mm.evaluation.golden import check_case, check_folder, kind_of
from tools.check_golden import main

GOLDEN = Path(__file__).parent / 'data' / 'golden'


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_every_case_passes_more_tightly_than_asked(capsys) -> None:
    assert main([str(GOLDEN), '--tol', '2e-5']) == 0
    *cases, total = lines(capsys)
    assert total == f'{len(cases)} passed, 0 failed'
    assert [case.split()[:2] for case in cases] == [
        ['PASS', folder.name] for folder in sorted(GOLDEN.iterdir())
    ]
    assert all(float(case.split()[2]) <= 2e-5 for case in cases)


def test_a_wrong_number_fails_and_is_named(tmp_path: Path, capsys) -> None:
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'vit_6b_tiny')
    golden = load_file(tmp_path / 'vit_6b_tiny' / 'golden.safetensors')
    golden['hidden_2_84'][0, 0, 0] += 0.5
    save_file(golden, tmp_path / 'vit_6b_tiny' / 'golden.safetensors')
    assert main([str(tmp_path)]) == 1
    assert lines(capsys) == [
        'FAIL vit_6b_tiny hidden_2_84 differs by 5.00e-01, tolerance 1e-04',
        '0 passed, 1 failed',
    ]


@pytest.mark.parametrize('poison', [float('nan'), None])
def test_nan_and_other_shapes_fail(tmp_path: Path, poison: float | None) -> None:
    folder = shutil.copytree(GOLDEN / 'probe_clip_projector_tiny', tmp_path / 'probe_x')
    golden = load_file(folder / 'golden.safetensors')
    golden['logits'] = golden['logits'][:, :3].contiguous() if poison is None else golden['logits'] * poison
    save_file(golden, folder / 'golden.safetensors')
    assert check_case(folder, 1e-4).detail == 'logits differs by inf, tolerance 1e-04'


def test_a_case_that_cannot_be_loaded_or_holds_nothing_fails(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'vit_x')
    save_file({'other': torch.ones(1)}, folder / 'golden.safetensors')
    assert check_case(folder, 1e-4).detail == 'the case holds nothing to compare'
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**config, 'hidden_size': 32}))
    result = check_case(folder, 1e-4)
    assert result.verdict == 'FAIL'
    assert 'hidden_size=32' in result.detail


def test_kinds_without_a_checker_fail_the_run_unless_left_out(tmp_path: Path, capsys) -> None:
    shutil.copytree(GOLDEN / 'vit_300m_tiny', tmp_path / 'vit_300m_tiny')
    shutil.copytree(GOLDEN / 'vit_300m_tiny', tmp_path / 'later_tiny')
    assert main([str(tmp_path)]) == 1
    shown = lines(capsys)
    assert "FAIL later_tiny no checker for kind 'later' in this version" in shown
    assert shown[-1] == '1 passed, 1 failed'
    assert main([str(tmp_path), '--only', 'vit,probe']) == 0
    assert lines(capsys)[-1] == '1 passed, 0 failed'


def test_one_case_can_be_checked_alone() -> None:
    assert [result.verdict for result in check_folder(GOLDEN / 'vit_300m_tiny')] == ['PASS']


def test_mistakes_exit_with_status_2(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path)]) == 2
    assert 'holds no golden case' in capsys.readouterr().err
    assert main([str(GOLDEN), '--only', 'vat']) == 2
    assert "'vat' is no kind of golden case" in capsys.readouterr().err


def test_kinds_are_told_by_the_longest_known_beginning() -> None:
    assert [kind_of(name) for name in ('vit_6b_x', 'vit_adapter_x', 'internvl_14b_x', 'text', 'new_thing')] == [
        'vit', 'vit_adapter', 'internvl_14b', 'text', 'new',
    ]  # fmt: skip
