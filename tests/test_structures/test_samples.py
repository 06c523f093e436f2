"""Samples on their way between processes, and stacking their fields."""

import copy
from multiprocessing.reduction import ForkingPickler

import torch

from internvl_mm.structures import BadSample, ImageSample, stack_field


def sample(label: int = 3) -> ImageSample:
    made = ImageSample.labelled(label, dataset='digits', index=7, path='a.png')
    made.gt_score = torch.rand(5, dtype=torch.bfloat16)
    made.pred_logits = torch.randn(5, requires_grad=True)
    return made


def assert_equal(one: ImageSample, other: ImageSample) -> None:
    assert one.metainfo == other.metainfo == dict(dataset='digits', index=7, path='a.png')
    assert set(one.keys()) == set(other.keys()) == {'gt_label', 'gt_score', 'pred_logits'}
    for name in one.keys():
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_a_sample_survives_pickle_and_copy_with_every_field():
    original = sample()
    assert_equal(
        ForkingPickler.loads(ForkingPickler.dumps(original)), original
    )  # as worker processes send it
    copied = copy.deepcopy(ImageSample.labelled(1, dataset='d', index=0))
    copied.gt_label[0] = 2
    assert copied.gt_label.tolist() == [2]


def test_labels_travel_without_shared_memory():
    state = ImageSample.labelled(3, dataset='digits', index=0).__getstate__()
    assert not any(isinstance(value, torch.Tensor) for value in state.values())


def test_fields_stack():
    samples = [ImageSample.labelled(label, dataset='digits', index=0) for label in (1, 4)]
    assert stack_field(samples, 'gt_label').tolist() == [[1], [4]]


def test_a_bad_sample_is_one_line_of_the_ledger():
    line = BadSample('digits', 3, 'a.png', 'truncated').as_dict()
    assert line == dict(dataset='digits', index=3, path='a.png', reason='truncated')
