"""Probes as runs: from a config to cached features, rows and results."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.evaluator import DumpResults

from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import KNNProbe, SweepProbe
from internvl_mm.engine.runner import build_runner
from internvl_mm.evaluation.metrics import Accuracy
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.utils.errors import ConfigError, DataError


def config(tmp_path: Path, probe: dict, *, frozen='all', num_classes=10) -> Config:
    def digits(split: str, length: int) -> dict:
        return dict(type=DigitSceneDataset, name=split, split=split, size=28, length=length)

    backbone = dict(
        type=InternViT,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=28,
        frozen=frozen,
    )
    return Config(
        dict(
            runner_type=ProbeRunner,
            work_dir=str(tmp_path / 'runs'),
            probe=probe,
            features=dict(folder=str(tmp_path / 'features'), views=2),
            model=dict(
                type=ImageClassifier,
                backbone=backbone,
                neck=dict(type=ClsPatchConcat),
                head=dict(type=LinearClsHead, num_classes=num_classes),
                data_preprocessor=dict(type=ImageDataPreprocessor),
            ),
            train_dataloader=dict(dataset=digits('train', 30)),
            benchmarks=dict(
                digits=dict(
                    dataloader=dict(
                        batch_size=4, sampler=dict(type='EvalSampler'), dataset=digits('test', 20)
                    ),
                    metrics=[dict(type=Accuracy, topk=(1, 3))],
                )
            ),
            randomness=dict(seed=0),
        )
    )


def test_sweep_leaves_every_row_and_the_best_result(tmp_path):
    probe = dict(
        type=SweepProbe, learning_rates=[0.01, 0.1], weight_decays=[0.0, 1e-4], epochs=2, batch_size=10
    )
    runner = build_runner(config(tmp_path, probe))
    rows = runner.train()
    assert len(rows) == 4
    assert set(rows[0].metrics) == {'digits/top1', 'digits/top3', 'digits/loss', 'digits/n'}
    kept = json.loads(Path(runner.log_dir, 'probe.json').read_text())
    assert [row['setting'] for row in kept] == [row.setting for row in rows]
    best = max(rows, key=lambda row: row.metrics['digits/top1'])
    results = json.loads(Path(runner.log_dir, 'results.json').read_text())
    top1 = next(row for row in results if row['metric'] == 'top1')
    assert (top1['value'], top1['n'], top1['setting']) == (best.metrics['digits/top1'], 20, best.setting)


def test_the_samples_of_a_metric_with_a_prefix_are_its_own(tmp_path):
    class Half(Accuracy):
        """Scores every second sample alone, as a metric does that some images have no label for."""

        def score(self, samples):
            return [scores if sample['index'] % 2 else None
                    for sample, scores in zip(samples, super().score(samples), strict=True)]  # fmt: skip

    cfg = config(tmp_path, dict(type=KNNProbe, ks=[1]))
    cfg.benchmarks.digits.metrics.append(dict(type=Half, prefix='half'))
    runner = build_runner(cfg)
    runner.train()
    results = json.loads(Path(runner.log_dir, 'results.json').read_text())
    assert {row['metric']: row['n'] for row in results if 'top1' in row['metric']} == {
        'top1': 20,
        'half/top1': 10,
    }


def test_k_nearest_neighbours_as_a_run(tmp_path):
    rows = build_runner(config(tmp_path, dict(type=KNNProbe, ks=[1, 5]))).train()
    assert [row.setting for row in rows] == [dict(k=1), dict(k=5)]


def test_a_trainable_backbone_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="frozen must be 'all'"):
        build_runner(config(tmp_path, dict(type=KNNProbe), frozen=None)).train()


def test_classes_of_data_and_head_must_agree(tmp_path):
    with pytest.raises(DataError, match='10 classes.*num_classes=7'):
        build_runner(config(tmp_path, dict(type=KNNProbe, ks=[1]), num_classes=7)).train()


def test_benchmarks_are_needed(tmp_path):
    cfg = config(tmp_path, dict(type=KNNProbe))
    cfg.benchmarks = dict()
    with pytest.raises(ConfigError, match='benchmarks is empty'):
        build_runner(cfg).train()


def test_one_process_sweeps_and_the_others_get_its_rows(tmp_path, monkeypatch: pytest.MonkeyPatch):
    runner = build_runner(config(tmp_path, dict(type=KNNProbe, ks=[1, 5])))
    theirs = runner.train()
    runs = []

    def broadcast(shared: list, *, group: str) -> None:
        assert shared == [None], 'another process has nothing to give'
        assert group == 'patient', 'a sweep takes longer than the default group waits'
        shared[:] = [theirs]

    monkeypatch.setattr('internvl_mm.engine.probe_runner.is_main_process', lambda: False)
    monkeypatch.setattr('internvl_mm.engine.probe_runner.broadcast_object_list', broadcast)
    monkeypatch.setattr('internvl_mm.engine.probe_runner.patient_group', lambda: 'patient')
    other = build_runner(config(tmp_path, dict(type=KNNProbe, ks=[1, 5])))
    monkeypatch.setattr(other.probe, 'run', lambda *parts: runs.append(parts))
    assert other.train() == theirs
    assert runs == []


def test_metrics_that_need_all_processes_are_refused(tmp_path):
    cfg = config(tmp_path, dict(type=KNNProbe, ks=[1]))
    cfg.benchmarks.digits.metrics = [dict(type=DumpResults, out_file_path=str(tmp_path / 'all.pkl'))]
    with pytest.raises(ConfigError, match='benchmarks.digits.metrics has DumpResults, but probes score with'):
        build_runner(cfg).train()
