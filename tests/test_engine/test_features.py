"""The feature cache: equal to computing directly, never computes twice, keyed by what decides the features."""

import json

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from internvl_mm.data.datasets import DigitSceneDataset, FewShotDataset, ImageFolderDataset
from internvl_mm.engine import features
from internvl_mm.engine.features import FeatureCache
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling, ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.utils.errors import ConfigError, DataError, UserError

WIDTH = 16


def tiny_task(neck=ClsPatchConcat, *, vit=None, preprocessor=None, **options) -> ImageClassifier:
    torch.manual_seed(0)
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    backbone = InternViT(**{**sizes, **(vit or {})}, image_size=28, frozen='all')
    backbone.init_weights()
    return ImageClassifier(
        backbone=backbone,
        neck=neck(WIDTH, **options),
        head=dict(type=LinearClsHead, num_classes=10),
        data_preprocessor=ImageDataPreprocessor(**(preprocessor or {})),
    )


def digits(split='test', length=10, seed=0) -> DigitSceneDataset:
    return DigitSceneDataset(split, size=28, length=length, seed=seed)


def test_features_equal_direct_computation_and_are_kept(tmp_path):
    task, dataset = tiny_task(), digits()
    cache = FeatureCache(str(tmp_path), batch_size=4, shard_size=6)
    stored = cache.extract(task, dataset)
    assert stored.extracted == 10
    batch = dict(
        inputs=[dataset[i]['inputs'] for i in range(10)],
        data_samples=[dataset[i]['data_samples'] for i in range(10)],
    )
    data = task.data_preprocessor(batch, training=False)
    with torch.no_grad():
        direct = task.extract(data['inputs'])
    torch.testing.assert_close(stored.views[0][0], direct)
    assert stored.views[0][1].tolist() == list(range(10))
    assert stored.labels().tolist() == dataset.targets.tolist()

    again = cache.extract(task, dataset)
    assert again.extracted == 0
    torch.testing.assert_close(again.views[0][0], direct)


def test_an_interrupted_extraction_continues(tmp_path):
    task, dataset = tiny_task(), digits()
    cache = FeatureCache(str(tmp_path), shard_size=4)
    cache.extract(task, dataset)
    shards = sorted(tmp_path.rglob('*.safetensors'))
    assert len(shards) == 3
    shards[1].unlink()
    assert cache.extract(task, dataset).extracted == 4


def test_views_are_fresh_epochs_of_training_data(tmp_path):
    stored = FeatureCache(str(tmp_path), views=2).extract(tiny_task(), digits('train'))
    assert len(stored.views) == 2
    assert not torch.allclose(stored.views[0][0], stored.views[1][0])


def test_whole_token_sequences_for_necks_that_train(tmp_path):
    stored = FeatureCache(str(tmp_path)).extract(tiny_task(AttentionPooling, num_heads=2), digits(length=3))
    assert stored.views[0][0].shape == (3, 1 + 4, WIDTH)
    assert stored.grid == (2, 2)


def test_key_follows_weights_and_data(tmp_path):
    cache, task = FeatureCache(str(tmp_path)), tiny_task()
    cache.extract(task, digits())
    assert cache.extract(task, digits(seed=1)).extracted == 10
    with torch.no_grad():
        task.backbone.encoder.layers[0].ls1.add_(1)
    assert cache.extract(task, digits()).extracted == 10


@pytest.mark.parametrize(
    'change',
    [
        dict(vit=dict(num_attention_heads=4)),
        dict(vit=dict(layer_norm_eps=1e-2)),
        dict(vit=dict(rms_rounding='fused')),
        dict(preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
    ],
    ids=lambda change: next(iter(next(iter(change.values())))),
)
def test_key_follows_what_no_weight_tells(tmp_path, change):
    cache = FeatureCache(str(tmp_path))
    cache.extract(tiny_task(), digits())
    assert cache.extract(tiny_task(**change), digits()).extracted == 10
    # What changes no feature spares the work.
    assert cache.extract(tiny_task(vit=dict(gradient_checkpointing=True)), digits()).extracted == 0


def test_samples_of_a_subset_have_their_own_labels(tmp_path):
    subset = FewShotDataset(digits('train', length=200), shots=2, subset_file=str(tmp_path / 'subset.json'))
    stored = FeatureCache(str(tmp_path / 'cache')).extract(tiny_task(), subset)
    assert stored.labels().tolist() == subset.targets.tolist()
    assert stored.dataset.num_classes == 10  # which votes of neighbours need


def test_the_head_does_not_matter(tmp_path):
    cache, task = FeatureCache(str(tmp_path)), tiny_task()
    cache.extract(task, digits())
    with torch.no_grad():
        task.head.linear.weight.add_(1)
    assert cache.extract(task, digits()).extracted == 0


def test_broken_file_is_named(tmp_path):
    cache, task = FeatureCache(str(tmp_path)), tiny_task()
    cache.extract(task, digits())
    shard = next(tmp_path.rglob('*.safetensors'))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match=f'{shard.name}.*delete it'):
        cache.extract(task, digits())


def test_no_views_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='features.views=0'):
        FeatureCache(str(tmp_path), views=0)


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match="features.folder='.*' is not writable .*name another"):
        FeatureCache(str(tmp_path / 'file')).extract(tiny_task(), digits())

    def full(tensors, path):
        path.write_bytes(b'begun')
        raise SafetensorError('I/O error: No space left on device (os error 28)')

    monkeypatch.setattr(features, 'save_file', full)
    with pytest.raises(DataError, match="the disk is full, .* GiB free.*features.dtype='fp16'; run again"):
        FeatureCache(str(tmp_path / 'cache')).extract(tiny_task(), digits())
    assert [path.suffix for path in (tmp_path / 'cache').rglob('*.*')] == ['.json']


def test_samples_that_cannot_be_read_are_left_out_and_listed(tmp_path, capsys):
    (tmp_path / 'images' / 'only').mkdir(parents=True)
    for index in range(4):
        Image.new('RGB', (28, 28)).save(tmp_path / 'images' / 'only' / f'{index}.png')
    (tmp_path / 'images' / 'only' / '2.png').write_bytes(b'no picture')
    dataset = ImageFolderDataset(str(tmp_path / 'images'), on_error='skip', name='folder')
    stored = FeatureCache(str(tmp_path / 'cache')).extract(tiny_task(), dataset)
    assert stored.views[0][1].tolist() == [0, 1, 3]
    (ledger,) = (tmp_path / 'cache').rglob('bad_samples_*.jsonl')
    assert json.loads(ledger.read_text())['index'] == 2
    assert '1 samples of folder could not be read' in capsys.readouterr().out


@pytest.mark.parametrize('shard_size', (8192, 2))
def test_a_run_of_broken_pictures_longer_than_a_batch_is_left_out(tmp_path, shard_size):
    pictures = tmp_path / 'images' / 'only'
    pictures.mkdir(parents=True)
    for index in range(6):
        Image.new('RGB', (28, 28)).save(pictures / f'{index}.png')
    for index in (2, 3, 4):
        (pictures / f'{index}.png').write_bytes(b'no picture')
    dataset = ImageFolderDataset(str(tmp_path / 'images'), on_error='skip', name='folder')
    cache = FeatureCache(str(tmp_path / 'cache'), batch_size=2, shard_size=shard_size)
    task = tiny_task(AttentionPooling, num_heads=2)
    stored = cache.extract(task, dataset)
    assert stored.views[0][1].tolist() == [0, 1, 5] and stored.views[0][0].shape == (3, 1 + 4, WIDTH)
    assert stored.grid == (2, 2)
    (ledger,) = (tmp_path / 'cache').rglob('bad_samples_*.jsonl')
    assert [json.loads(line)['index'] for line in ledger.open()] == [2, 3, 4]
    assert cache.extract(task, dataset).extracted == 0


def test_too_many_broken_pictures_stop_and_nothing_but_broken_ones_say_why(tmp_path, monkeypatch):
    (tmp_path / 'images' / 'only').mkdir(parents=True)
    for index in range(52):
        (tmp_path / 'images' / 'only' / f'{index:02d}.png').write_bytes(b'no picture')
    dataset = ImageFolderDataset(str(tmp_path / 'images'), on_error='skip', name='folder')
    with pytest.raises(DataError, match='52 of 52 samples are bad, more than max_fraction=0.001'):
        FeatureCache(str(tmp_path / 'cache')).extract(tiny_task(), dataset)
    for _ in range(2):  # told again when its empty files are there already
        with pytest.raises(DataError, match=r'none of the 52 samples of folder .*00\.png.* delete .*cache'):
            FeatureCache(str(tmp_path / 'cache'), max_fraction=1).extract(tiny_task(), dataset)
    with pytest.raises(ConfigError, match='features.max_fraction=2 .* from 0 to 1'):
        FeatureCache(max_fraction=2)


def test_processes_share_the_work_as_the_first_one_sees_it(tmp_path, monkeypatch):
    task, dataset = tiny_task(), digits()
    cache = FeatureCache(str(tmp_path), shard_size=4)
    cache.extract(task, dataset)
    shards = sorted(tmp_path.rglob('*.safetensors'))
    shards[1].unlink()

    # The first process looked before any of the other two files was finished.
    def from_the_first(shared):
        shared[0] = [(path, 0, 4 * number) for number, path in enumerate(shards)]

    monkeypatch.setattr(features, 'broadcast_object_list', from_the_first)
    monkeypatch.setattr(features, 'get_dist_info', lambda: (1, 2))
    assert cache.extract(task, dataset).extracted == 10
    assert shards[1].exists()
