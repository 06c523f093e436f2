"""Zero-shot runs of a tiny published InternVL-14B: one table, embeddings kept and shared, equal to direct computing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from internvl_mm.data.captions import CleanCaption
from internvl_mm.data.datasets import CaptionListDataset, ImageFolderDataset
from internvl_mm.engine import text_features
from internvl_mm.engine.config import check_config, config_root, load_config, set_checkpoint
from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import KNNProbe, SweepProbe
from internvl_mm.engine.runner import build_runner
from internvl_mm.engine.zero_shot import ZeroShotRunner
from internvl_mm.evaluation.prompts import read_prompts
from internvl_mm.models.hub import load_model
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError
from tests.test_engine.tiny_zero_shot import results, write_fer2013, write_flickr30k, write_model
from tests.zero_shot_cases import write_picture

ROOT = Path(__file__).parents[2]
FAST = ['features.num_workers=0', 'features.batch_size=8']


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Path:
    """A working folder with the model and the data at the places the shipped configs name."""
    folder = tmp_path_factory.mktemp('zero_shot')
    write_model(folder / 'model')
    write_fer2013(folder / 'data')
    write_flickr30k(folder / 'data')
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)


def configured(name: str, *options: str) -> Config:
    cfg = load_config(f'zero_shot/{name}', [*FAST, *options])
    set_checkpoint(cfg, 'model')
    # Small pictures make small token grids; the sizes are the recipes', the model interpolates.
    for benchmark in cfg.benchmarks.values():
        for step in benchmark.dataloader.dataset.transform:
            step['size'] = 56
        benchmark.dataloader.num_workers = 0
    cfg.visualizer = None
    return cfg


def run(name: str, *options: str, work_dir: str | None = None) -> dict[str, float]:
    cfg = configured(name, *options)
    cfg.work_dir = work_dir or f'work_dirs/{name}'
    check_config(cfg, purpose='test')
    return build_runner(cfg, job='test').test()


def pixels(file: Path) -> torch.Tensor:
    dataset = ImageFolderDataset(
        'data/fer2013/test', transform=configured('fer2013').benchmarks.fer2013.dataloader.dataset.transform
    )
    index = next(i for i in range(len(dataset)) if Path(dataset.path(i)) == file)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (dataset[index]['inputs'] / 255 - mean[:, None, None]) / std[:, None, None]


def test_classification_is_what_a_loop_over_classes_gives() -> None:
    """The published loop: class by class, padded to 80 tokens, 100 times the cosine."""
    found = run('fer2013', 'published=True')
    model, tokenizer = load_model('model').float(), CaptionTokenizer('model')
    names, templates = (read_prompts(kind, 'en')['fer2013'] for kind in ('classnames', 'templates'))
    columns = []
    with torch.no_grad():
        for name in names:
            ids = tokenizer.summaries([template.replace('{c}', name) for template in templates])
            ids = F.pad(ids, (0, 80 - ids.shape[1]))
            mean = F.normalize(model.encode_text(ids), dim=-1).mean(0)
            columns.append(mean / mean.norm())
        files = sorted(Path('data/fer2013/test').rglob('*.png'))
        images = torch.stack([pixels(file) for file in files])
        logits = 100 * F.normalize(model.encode_image(images, 'InternVL-C'), dim=-1) @ torch.stack(columns, 1)
    labels = torch.arange(7).repeat_interleave(2)
    assert found['fer2013/loss'] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-4)
    assert found['fer2013/top1'] == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())
    rows = results(Path('work_dirs/fer2013'))
    top1 = rows['fer2013/top1']
    assert top1['lower'] < top1['value'] < top1['upper'] and top1['n'] == 14
    assert 'fer2013/mean_per_class_low' not in rows and rows['fer2013/mean_per_class']['upper'] > 0


def test_images_and_texts_are_computed_once_and_shared(monkeypatch) -> None:
    options = ('features.folder=shared',)
    first = run('retrieval', 'test_benchmarks=["flickr30k","flickr30k_cn"]', *options, work_dir='first')
    assert {'flickr30k/i2t_r1', 'flickr30k_cn/t2i_r10'} <= first.keys()
    assert first['flickr30k/images'] == 4 and first['flickr30k/texts'] == 8

    computed = []
    real = text_features.embed_sentences
    monkeypatch.setattr(
        text_features, 'embed_sentences', lambda task, texts: computed.append(len(texts)) or real(task, texts)
    )
    again = run('retrieval', 'test_benchmarks=["flickr30k","flickr30k_cn"]', *options, work_dir='again')
    assert again == first and computed == []
    run('flickr30k', 'model.image_mode=InternVL-G', *options, work_dir='other')
    assert computed == [], 'both modes embed texts alike'
    # One folder of images for each mode: both languages have the same pictures.
    assert len([file for file in Path('shared').glob('*/settings.json') if file.parent.name != 'texts']) == 2


def test_a_stopped_run_goes_on_with_the_missing_texts(monkeypatch) -> None:
    monkeypatch.setattr(text_features, 'SHARD_SENTENCES', 3)
    options = ('features.folder=resumed',)
    first = run('flickr30k', *options, work_dir='resumed_a')
    shards = sorted(Path('resumed/texts').rglob('*.safetensors'))
    assert len(shards) == 3  # 3, 3 and 2 captions
    shards[1].unlink()
    assert run('flickr30k', *options, work_dir='resumed_b') == first
    assert len(list(Path('resumed/texts').rglob('*.safetensors'))) == 3


def test_pairs_without_text_stop_or_are_recorded_and_long_captions_counted(place: Path, capsys) -> None:
    lines = Path('data/flickr30k/flickr30k_test_karpathy.txt').read_text().splitlines()
    Path('bad.txt').write_text('\n'.join([*lines[:-1], '103.jpg,  ', '100.jpg,' + 'a1b2c3 ' * 40]))

    def of(on_error: str) -> dict[str, float]:
        cfg = configured('flickr30k', 'features.folder=bad')
        cfg.benchmarks.flickr30k.dataloader.dataset.update(file='bad.txt', on_error=on_error)
        cfg.work_dir = 'bad'
        return build_runner(cfg, job='test').test()

    with pytest.raises(DataError, match=r'103.jpg: image without text'):
        of('fail')
    found = of('skip')
    assert found['flickr30k/n'] == 8, 'of nine pairs one has no caption'
    said = ' '.join(capsys.readouterr().out.split())
    assert '1 pairs of flickr30k have no caption' in said
    assert '1 of 8 captions have more than 80 tokens and were cut' in said
    (ledger,) = Path('bad').rglob('bad_samples_*.jsonl')
    assert json.loads(ledger.read_text().splitlines()[-1])['index'] == 7
    Path('bad.txt').write_text('image,caption\n100.jpg, \n101.jpg,  ')
    with pytest.raises(DataError, match='none of the 2 pairs of flickr30k has a caption'):
        of('skip')


def test_probes_read_the_embeddings_of_zero_shot_runs() -> None:
    run('fer2013', 'features.folder=probed', work_dir='probed')
    cfg = configured('fer2013', 'features.folder=probed')
    dataset = cfg.benchmarks.fer2013.dataloader.dataset
    for probe in (dict(type=KNNProbe, ks=[1]), dict(type=SweepProbe, learning_rates=[0.1], epochs=1)):
        settings = dict(cfg.to_dict(), runner_type=ProbeRunner, probe=probe, work_dir='probed')
        settings['train_dataloader'] = dict(dataset=dataset)
        settings['benchmarks']['fer2013'].pop('prompts')
        before = set(Path('probed').rglob('*.safetensors'))
        (row,) = build_runner(Config(settings)).train()
        assert set(Path('probed').rglob('*.safetensors')) == before, 'nothing was computed again'
        if isinstance(row.setting.get('k'), int):
            assert row.metrics['fer2013/top1'] == 100, 'each picture is its own neighbour'


def test_mistakes_are_told() -> None:
    cfg = configured('fer2013')
    cfg.benchmarks.fer2013.pop('prompts')
    with pytest.raises(ConfigError, match=r"benchmarks\['fer2013'\] has no prompts"):
        ZeroShotRunner.from_cfg(cfg).test()
    cfg = configured('fer2013')
    cfg.benchmarks.fer2013.prompts = dict(type='ClassPrompts', names=['a', 'a'])
    with pytest.raises(ConfigError, match="2 names|stand for more than one class, such as 'a'"):
        ZeroShotRunner.from_cfg(cfg).test()
    cfg.benchmarks.fer2013.prompts = dict(type='ClassPrompts', names=['a', 'b'])
    with pytest.raises(DataError, match='2 names for the 7 classes'):
        ZeroShotRunner.from_cfg(cfg).test()
    with pytest.raises(CheckpointError, match='tokenizer'):
        cfg = configured('fer2013')
        cfg.model.tokenizer.path = str(ROOT / 'tests/data/golden/internvl_14b_tiny')
        ZeroShotRunner.from_cfg(cfg).test()


def test_captions_of_pairs_are_cleaned_as_published() -> None:
    cfg = configured('flickr30k')
    dataset = cfg.benchmarks.flickr30k.dataloader.dataset
    assert dataset.type is CaptionListDataset and dataset.caption_transform.type is CleanCaption


def test_one_command_gives_one_table(capsys) -> None:
    spec = importlib.util.spec_from_file_location('door_test', ROOT / 'tools' / 'test.py')
    door = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(door)
    size = [f'benchmarks.fer2013.dataloader.dataset.transform.{step}.size=56' for step in (0, 1)]
    argv = ['zero_shot/classification', 'model', '--benchmarks', 'fer2013', '--work-dir', 'door']
    # The other twenty sets of the list are not there, and not asked for.
    assert (
        door.main([*argv, '--cfg-options', *FAST, *size, 'benchmarks.fer2013.dataloader.num_workers=0']) == 0
    )
    assert 'mean_per_class' in capsys.readouterr().out
    assert set(results(Path('door'))) == {
        f'fer2013/{name}' for name in ('top1', 'top5', 'loss', 'mean_per_class')
    }


@pytest.mark.slow
def test_two_processes_share_the_work() -> None:
    """The whole suite's door under torchrun: shards of five pictures in turns, the same numbers as one process."""
    sizes = [f'benchmarks.fer2013.dataloader.dataset.transform.{step}.size=56' for step in (0, 1)]
    argv = [str(ROOT / 'tools' / 'test.py'), 'zero_shot/fer2013', 'model', '--cfg-options', *FAST, *sizes]
    argv += ['benchmarks.fer2013.dataloader.num_workers=0', 'features.shard_size=5']
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    found = {}
    for name, launcher, last in (('one', [], []), ('two', torchrun, ['--launcher', 'pytorch'])):
        own = [f'features.folder={name}/features', '--work-dir', name, *last]
        done = subprocess.run(
            [sys.executable, *launcher, *argv, *own], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        # The hash differs by the folder of the features.
        found[name] = {
            key: {field: value for field, value in row.items() if field != 'config_hash'}
            for key, row in results(Path(name)).items()
        }
        assert len(list(Path(name, 'features').glob('**/*.safetensors'))) >= 3
    assert found['two'] == found['one'] and found['two']['fer2013/top1']['n'] == 14


def test_the_guide_to_adding_a_benchmark_works_as_written(place: Path) -> None:
    guide = (ROOT / 'docs' / 'add_a_benchmark.md').read_text('utf-8')
    code = guide.partition('```python\n')[2].partition('```')[0]
    assert len(code.splitlines()) <= 25
    for number, kind in enumerate(('apple', 'banana', 'cherry')):
        write_picture(place / 'data' / 'fruit' / kind / '0.png', number)
    # Beside a copy of the bases, which it imports by its place.
    shutil.copytree(config_root() / '_base_', place / 'configs' / '_base_')
    file = place / 'configs' / 'zero_shot' / 'fruit.py'
    file.parent.mkdir()
    file.write_text(code, 'utf-8')
    cfg = load_config(str(file), [*FAST, 'benchmarks.fruit.dataloader.num_workers=0'])
    set_checkpoint(cfg, 'model')
    cfg.work_dir = 'fruit'
    check_config(cfg, purpose='test')
    found = build_runner(cfg, job='test').test()
    assert found['fruit/n'] == 3 and {'fruit/top1', 'fruit/mean_per_class'} <= found.keys()
