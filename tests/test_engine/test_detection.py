"""Detectors through the runner: results and figures, resuming, several processes, checkpoints, dry runs, bad data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from internvl_mm.engine.checkpoint import load_model
from internvl_mm.engine.config import check_config
from internvl_mm.engine.dry_run import dry_run
from internvl_mm.engine.hooks import BadSampleHook
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies import DeepSpeedStrategy
from internvl_mm.evaluation.figures import Bars, Lines, read_figures
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.states import find_state
from tests.test_engine.tiny import LossRecorder, SaveAt, StopTraining
from tests.test_engine.tiny_detection import COLOURS, detection_config, write_rectangles


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / 'data').mkdir()
    return write_rectangles(tmp_path / 'data')


def trained(config: dict[str, Any], *hooks: Any) -> tuple[list[float], Runner]:
    recorder, runner = LossRecorder(), Runner.from_cfg(config)
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except StopTraining:
        pass
    return recorder.losses, runner


def test_training_and_evaluation_leave_numbers_and_figures(work_dir: Path, file: Path) -> None:
    losses, runner = trained(
        detection_config(work_dir, file, kind='mask_rcnn', val_benchmarks=['rectangles'])
    )
    assert len(losses) == 4 and all(torch.tensor(losses).isfinite())
    rows = json.loads((Path(runner.log_dir) / 'results.json').read_text())
    values = {row['metric']: row['value'] for row in rows}
    assert {'bbox_AP', 'bbox_AP50', 'segm_AP'} <= values.keys()
    assert all(row['n'] == 4 for row in rows) and all(value >= 0 for value in values.values())
    figures = read_figures(runner.log_dir).get('rectangles', [])
    assert all(isinstance(figure, (Bars, Lines)) for figure in figures)
    assert runner.strategy.task.classes == tuple(COLOURS)


def test_a_resumed_run_continues_the_same_curve(work_dir: Path, file: Path) -> None:
    whole, _ = trained(detection_config(work_dir / 'whole', file))
    first, _ = trained(detection_config(work_dir / 'split', file), SaveAt(3))
    second, _ = trained(detection_config(work_dir / 'split', file, resume=True))
    assert first + second == whole and whole[-1] < whole[0]


def test_recomputation_changes_no_loss(work_dir: Path, file: Path) -> None:
    plain, _ = trained(detection_config(work_dir / 'a', file))
    config = detection_config(work_dir / 'b', file)
    config['model']['backbone']['gradient_checkpointing'] = True
    recomputed, _ = trained(config)
    assert recomputed == pytest.approx(plain, rel=1e-6)


def test_a_written_config_builds_the_same_run(work_dir: Path, file: Path) -> None:
    losses, runner = trained(
        detection_config(work_dir, file, kind='cascade_mask_rcnn'), SaveAt(2, stop=False)
    )
    written = Config.fromfile(Path(runner.log_dir) / 'config.py')
    check_config(written)
    config = {key: written[key] for key in written if key not in ('work_dir', 'launcher')}
    again, _ = trained(dict(config, work_dir=str(work_dir / 'again')))
    assert again == losses


@pytest.mark.slow
def test_the_state_of_a_zero_run_is_one_file_that_converts_and_evaluates(work_dir: Path, file: Path) -> None:
    strategy = dict(type=DeepSpeedStrategy, zero_stage=3, precision='fp32')
    config = detection_config(work_dir / 'zero', file, strategy=strategy)
    losses, runner = trained(config, SaveAt(3))
    state = find_state(str(work_dir / 'zero'))
    tensors = load_model(Path(state))
    assert {name.split('.')[0] for name in tensors} == {'backbone', 'neck', 'bbox_head'}
    door = ['tools/convert.py', str(state), str(work_dir / 'vit.pth'), '--to', 'pth', '--num-heads', '2']
    done = subprocess.run(
        [sys.executable, *door], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    vit = torch.load(work_dir / 'vit.pth', weights_only=True)
    vit = vit.get('module', vit)
    assert torch.equal(vit['patch_embed.proj.bias'], tensors['backbone.embeddings.patch_embedding.bias'])
    single = Runner.from_cfg(detection_config(work_dir / 'single', file, load_from=str(state)))
    assert single.test()['rectangles/n'] == 4
    alone, _ = trained(detection_config(work_dir / 'alone', file), SaveAt(3))
    assert losses == pytest.approx(alone, rel=1e-4)


def test_a_dry_run_measures_and_keeps_nothing(
    work_dir: Path, file: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work_dir)
    dry_run(Config(detection_config(work_dir, file, kind='mask_rcnn')))
    printed = capsys.readouterr().out
    assert 'GFLOPs' in printed and 'activations measured with 2' in printed and 'roi_head' in printed
    assert list(work_dir.iterdir()) == []


def test_classes_of_the_data_that_are_not_the_heads_stop_before_the_first_step(
    work_dir: Path, file: Path
) -> None:
    config = detection_config(work_dir, file)
    config['model']['classes'] = ('red', 'blue', 'green')
    with pytest.raises(DataError, match="class 1 is 'blue' in model.classes but 'green' in rectangles"):
        trained(config)
    config = detection_config(work_dir / 'b', file)
    config['model']['detector']['bbox_head']['num_classes'] = 7
    with pytest.raises(DataError, match='rectangles has 3 classes but the heads of ATSS have num_classes=7'):
        trained(config)


def test_objects_left_out_are_in_the_ledger_of_the_run(work_dir: Path, file: Path) -> None:
    content = json.loads(file.read_text())
    content['annotations'][0]['bbox'][2] = -5
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match='inverted or empty box'):
        trained(detection_config(work_dir / 'a', file))
    config = detection_config(work_dir / 'b', file, custom_hooks=[dict(type=BadSampleHook)])
    config['train_dataloader']['dataset']['on_error'] = 'replace'
    config['benchmarks']['rectangles']['dataloader']['dataset']['on_error'] = 'skip'
    losses, runner = trained(config)
    (line,) = (Path(runner.log_dir) / 'bad_samples.jsonl').read_text().splitlines()
    assert 'inverted or empty box' in json.loads(line)['reason'] and len(losses) == 4


@pytest.mark.slow
def test_two_processes_train_as_one(work_dir: Path, file: Path, repo: Path) -> None:
    from tests.test_engine.two_processes import free_port

    alone, runner = trained(detection_config(work_dir / 'one', file))
    who = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    command = [sys.executable, '-m', 'tests.test_engine.test_detection', str(work_dir), str(file)]
    started = [
        subprocess.Popen(command, cwd=repo, env=dict(os.environ, **who, RANK=str(rank), LOCAL_RANK=str(rank)))
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    result = json.loads((work_dir / 'two.json').read_text())
    # Sums over pictures in another order are all that differs; the head shares its normaliser among processes.
    assert result['losses'] == pytest.approx(alone, rel=1e-4)
    assert result['metrics'] == pytest.approx(runner.test(), abs=0.5)


def main(work_dir: Path, file: Path) -> None:
    """One of the two processes."""
    from mmengine.dist import all_gather_object, get_rank

    config = detection_config(work_dir / 'two', file, launcher='pytorch')
    config['train_dataloader']['batch_size'] = 1
    losses, runner = trained(config)
    every = all_gather_object(losses)
    metrics = runner.test()
    if get_rank() == 0:
        means = [sum(step) / 2 for step in zip(*every, strict=True)]
        (work_dir / 'two.json').write_text(json.dumps(dict(losses=means, metrics=metrics)))


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
