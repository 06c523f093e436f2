"""mIoU against mmseg's metric, and everything a map can be wrong in."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from internvl_mm.evaluation.intervals import bootstrap_interval
from internvl_mm.evaluation.metrics import MeanIoU
from internvl_mm.utils.errors import DataError

CLASSES = ('sky', 'road', 'car', 'ghost')


def sample(index: int, label: torch.Tensor, predicted: torch.Tensor) -> dict:
    return dict(
        dataset='toy',
        index=index,
        gt_sem_seg=dict(data=label[None]),
        pred_sem_seg=dict(data=predicted[None]),
    )


def random_samples(count: int) -> list[dict]:
    """Maps of several sizes with ignored pixels and without class 3."""
    made = []
    for index in range(count):
        shape = (10 + index, 13)
        label, predicted = torch.randint(3, shape), torch.randint(3, shape)
        predicted = torch.where(torch.rand(shape) < 0.6, label, predicted)
        label[torch.rand(shape) < 0.1] = 255
        made.append(sample(index, label, predicted))
    return made


def measure(metric: MeanIoU, samples: list[dict]) -> dict[str, float]:
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    assert set(found) <= set(metric.reported())
    return found


def test_equals_the_metric_of_mmseg():
    samples = random_samples(5)
    theirs = IoUMetric()
    theirs.dataset_meta = dict(classes=CLASSES)
    theirs.process(None, samples)
    expected = theirs.evaluate(5)
    ours = MeanIoU()
    found = measure(ours, samples)
    assert {name: round(found[name], 2) for name in expected} == pytest.approx(expected)
    assert found['n'] == 5
    assert found['mIoU_low'] < found['mIoU'] < found['mIoU_high']
    [bars] = ours.figures
    assert set(bars.values) == {'sky', 'road', 'car'}, 'a class that never occurs has no bar'
    assert np.mean(list(bars.values.values())) == pytest.approx(found['mIoU'])


def test_numbers_by_hand():
    label = torch.tensor([[0, 0, 1, 255]])
    predicted = torch.tensor([[0, 1, 1, 2]])
    found = measure(MeanIoU(), [sample(0, label, predicted)])
    # sky 1/2, road 1/2; the car stands on an ignored pixel
    assert found['mIoU'] == pytest.approx(50.0)
    assert found['mAcc'] == pytest.approx(75.0)
    assert found['aAcc'] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ('label', 'predicted', 'message'),
    [
        (
            (2, 3),
            (3, 2),
            r'label map has \(2, 3\) pixels, the prediction \(3, 2\): load label maps after resizing',
        ),
        (torch.full((2, 2), 4), (2, 2), 'the label map has class 4, but the data set 4 classes'),
        (torch.tensor([[3, -1]]), (1, 2), 'the label map has class -1, but the data set 4 classes'),
        ((2, 2), torch.full((2, 2), 9), r'the prediction has class 9, .*evaluate a head of the classes'),
    ],
)
def test_maps_that_do_not_fit(label, predicted, message: str):
    label, predicted = (
        torch.zeros(each, dtype=torch.long) if isinstance(each, tuple) else each
        for each in (label, predicted)
    )
    with pytest.raises(DataError, match=f"image 7 of 'toy'.*{message}"):
        measure(MeanIoU(), [sample(7, label, predicted)])


def test_a_sample_without_label_map():
    bare = sample(0, torch.zeros(1, 1), torch.zeros(1, 1))
    del bare['gt_sem_seg']
    with pytest.raises(DataError, match="image 0 of 'toy' has no label map"):
        measure(MeanIoU(), [bare])


def test_maps_without_any_labelled_pixel_count_nothing():
    empty = sample(1, torch.full((2, 2), 255), torch.zeros(2, 2, dtype=torch.long))
    right = sample(0, torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        scores = measure(MeanIoU(), [right, empty, dict(empty, index=2)])
    # Not drawn into sets of ignored pictures alone, which have no mean.
    assert (scores['mIoU'], scores['mIoU_low'], scores['mIoU_high'], scores['n']) == (100.0, 100.0, 100.0, 3)
    assert measure(MeanIoU(), [empty]) == dict(n=0), 'nothing was measured, which is not NaN'
    assert measure(MeanIoU(), []) == dict(n=0)


def test_without_names_the_highest_class_counts():
    metric = MeanIoU()
    ignored = sample(1, torch.full((2, 2), 255), torch.ones(2, 2, dtype=torch.long))
    metric.process(None, [sample(0, torch.tensor([[0, 2]]), torch.tensor([[0, 1]])), ignored])
    assert metric.evaluate(2)['mIoU'] == pytest.approx(100 / 3)
    assert set(metric.figures[0].values) == {'0', '1', '2'}


def test_bootstrap_interval_holds_the_spread_of_a_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(5.0, 1.0, size=(400, 1))
    low, high = bootstrap_interval(values, lambda sums: sums[:, 0] / 400)
    # The normal interval of a mean: ± 1.96 / √400
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    with pytest.raises(ValueError, match='at least one sample'):
        bootstrap_interval(values[:0], lambda sums: sums[:, 0])
