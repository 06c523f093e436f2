"""Segmentation runs: bad masks are recorded, a dry run estimates, ZeRO on two processes equals one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from internvl_mm.data.digit_scenes import DigitSceneSettings, write_digit_scenes
from internvl_mm.engine.dry_run import dry_run
from internvl_mm.engine.runner import Runner
from internvl_mm.utils.errors import DataError
from tests.test_engine.segmentation_processes import STEPS, config_for, main
from tests.test_engine.two_processes import launch

ZERO = ['zero1', 'zero2', 'zero3']
# Sums of gradients in another order; 20 steps of AdamW let rounding errors of 1e-7 grow to this at most.
BOUND = 2e-3


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 training scenes and 5 to test, without a mask that is missing."""
    folder = tmp_path_factory.mktemp('data') / 'scenes'
    return write_digit_scenes(folder, settings=DigitSceneSettings(train_size=32, test_size=5))


def one_epoch(data: Path, work_dir: Path, **options: object) -> Runner:
    config = config_for('single', work_dir, data, processes=1)
    config.train_cfg.max_epochs = config.param_scheduler[0].end = 1
    config.train_dataloader.dataset.update(options)
    return Runner.from_cfg(config)


def test_a_missing_mask_is_replaced_and_recorded(scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / 'scenes'
    shutil.copytree(scenes / 'segmentation', data / 'segmentation')
    mask = data / 'segmentation' / 'annotations' / 'training' / '000003.png'
    mask.unlink()
    runner = one_epoch(data, tmp_path / 'runs', on_error='replace')
    runner.train()
    [line] = (Path(runner.log_dir) / 'bad_samples.jsonl').read_text().splitlines()
    bad = json.loads(line)
    assert (bad['dataset'], bad['index']) == ('scenes_train', 3)
    assert '000003.png: cannot be read' in bad['reason']
    with pytest.raises(DataError, match='000003.png: cannot be read'):
        one_epoch(data, tmp_path / 'failing').train()


def test_a_class_list_that_is_not_the_heads_stops_before_training(scenes: Path, tmp_path: Path) -> None:
    config = config_for('single', tmp_path, scenes, processes=1)
    config.train_dataloader.dataset.dataset.metainfo = dict(classes=tuple('abcdefghijkl'))
    with pytest.raises(DataError, match='scenes_train has 12 classes but the head has num_classes=11'):
        Runner.from_cfg(config).train()


def test_a_dry_run_tells_parameters_and_memory(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dry_run(config_for('single', tmp_path, scenes, processes=1))
    told = capsys.readouterr().out
    assert 'decode_head' in told and 'neck' in told and 'activations' in told
    assert not list(tmp_path.iterdir()), 'nothing was kept'


@pytest.mark.slow
def test_zero_trains_as_one_process_does_and_resumes(scenes: Path, tmp_path: Path, repo: Path) -> None:
    folders = {1: tmp_path / 'one', 2: tmp_path / 'two'}
    (tmp_path / 'scenes').symlink_to(scenes)
    for folder in folders.values():
        folder.mkdir()
    main(folders[1], ['single'])
    launch(folders[2], ZERO, processes=2, repo=repo, module='segmentation_processes')
    expected = json.loads((folders[1] / 'single.json').read_text())
    assert len(expected['losses']) == STEPS
    assert max(expected['losses']) - min(expected['losses']) > 0.05, 'something was learnt'
    assert expected['resumed'] == expected['losses']
    for name in ZERO:
        found = json.loads((folders[2] / f'{name}.json').read_text())
        assert found['losses'] == pytest.approx(expected['losses'], abs=BOUND), name
        assert found['resumed'] == found['losses'], name
        assert found['metrics'] == pytest.approx(expected['metrics'], abs=1.0), name
        assert found['metrics']['scenes/n'] == 5
