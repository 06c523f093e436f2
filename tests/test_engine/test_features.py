"""The feature cache: equal to computing directly, never computes twice, keyed by what decides the features."""

import pytest
import torch

from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.engine.features import FeatureCache
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling, ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.utils.errors import ConfigError, DataError

WIDTH = 16


def tiny_task(neck=ClsPatchConcat, **options) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = InternViT(
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=28,
        frozen='all',
    )
    backbone.init_weights()
    return ImageClassifier(
        backbone=backbone,
        neck=neck(WIDTH, **options),
        head=dict(type=LinearClsHead, num_classes=10),
        data_preprocessor=ImageDataPreprocessor(),
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
