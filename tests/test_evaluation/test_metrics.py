"""Accuracies: hand-computed, against torchvision's and timm's definitions, exact for any order and process count."""

from __future__ import annotations

import random

import pytest
import torch
from mmengine.evaluator import Evaluator
from timm.utils import accuracy as timm_accuracy

from internvl_mm.evaluation.imagenet_subsets import class_subset
from internvl_mm.evaluation.metrics import Accuracy, ReaLAccuracy, SampleMetric
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError, DataError


def predicted(
    index: int, logits: list[float], label: int = 0, accepted: list[int] | None = None
) -> ImageSample:
    sample = ImageSample.labelled(label, dataset='toy', index=index)
    sample.pred_logits = torch.tensor(logits)
    if accepted is not None:
        sample.gt_labels = torch.tensor(accepted, dtype=torch.long)
    return sample


def evaluate(
    metric: SampleMetric, samples: list[ImageSample], classes: int | None = None
) -> dict[str, float]:
    evaluator = Evaluator(metric)
    if classes:
        evaluator.dataset_meta = dict(classes=[str(c) for c in range(classes)])
    for start in range(0, len(samples), 3):
        evaluator.process(samples[start : start + 3])
    found = evaluator.evaluate(len(samples))
    # What a metric announces holds for what it gives.
    prefix = f'{metric.prefix}/' if metric.prefix else ''
    assert set(found) <= {prefix + name for name in metric.reported()}
    return found


def on_processes(
    monkeypatch: pytest.MonkeyPatch, metrics: list[SampleMetric], shares: list[list[ImageSample]]
) -> dict[str, float]:
    """Evaluate shares on separate metrics and gather them as processes do."""
    for metric, share in zip(metrics, shares):
        metric.process(None, [sample.to_dict() for sample in share])
    gathered = [dict(metric.results) for metric in metrics]
    monkeypatch.setattr('internvl_mm.evaluation.metrics.base.all_gather_object', lambda _: gathered)
    return metrics[0].evaluate(len({sample.index for share in shares for sample in share}))


REAL = [
    predicted(0, [0.9, 0.5, 0.1, 0.0], accepted=[0]),  # right
    predicted(1, [0.9, 0.5, 0.1, 0.0], accepted=[1, 3]),  # second rank
    predicted(2, [0.9, 0.5, 0.1, 0.0], accepted=[3]),  # fourth rank
    predicted(3, [0.9, 0.5, 0.1, 0.0], accepted=[]),  # not counted
    predicted(4, [0.0, 0.5, 0.1, 0.9], accepted=[2, 3]),  # right
]
REAL_ANSWER = dict(top1=50.0, top2=75.0, n=4, excluded=1)


def test_accuracy_by_hand() -> None:
    samples = [
        predicted(0, [2.0, 1.0, 0.0], 0),
        predicted(1, [2.0, 1.0, 0.0], 1),
        predicted(2, [2.0, 1.0, 0.0], 2),
    ]
    result = evaluate(Accuracy((1, 2)), samples, classes=3)
    losses = -torch.tensor([2.0, 1.0, 0.0]).log_softmax(0)
    assert result['top1'] == pytest.approx(100 / 3) and result['top2'] == pytest.approx(200 / 3)
    assert result['loss'] == pytest.approx(losses.mean().item()) and result['n'] == 3


def test_accuracy_equals_timm() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 20), torch.randint(0, 20, (50,))
    samples = [predicted(i, row, int(label)) for i, (row, label) in enumerate(zip(logits.tolist(), labels))]
    result = evaluate(Accuracy(), samples)
    top1, top5 = timm_accuracy(logits, labels, topk=(1, 5))
    assert [result['top1'], result['top5']] == pytest.approx([top1.item(), top5.item()])
    assert result['loss'] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize(('name', 'first', 'last'), [('imagenet_a', 6, 988), ('imagenet_r', 1, 988)])
def test_class_subsets(name: str, first: int, last: int) -> None:
    subset = class_subset(name)
    assert len(set(subset)) == 200 and list(subset) == sorted(subset)
    assert (subset[0], subset[-1]) == (first, last)


def test_class_subsets_overlap_in_86_classes() -> None:
    assert len({*class_subset('imagenet_a')} & {*class_subset('imagenet_r')}) == 86
    with pytest.raises(ConfigError, match="class_subset='imagenet_x' is unknown"):
        class_subset('imagenet_x')


def test_subset_accuracy_ignores_the_other_columns() -> None:
    """Label 1 of ImageNet-A is column 11; a higher score of column 0, which is not in the set, does not matter."""
    logits = torch.zeros(1000)
    logits[0], logits[11], logits[13] = 9, 5, 4
    samples = [predicted(0, logits.tolist(), 1), predicted(1, logits.tolist(), 2)]
    result = evaluate(Accuracy((1, 2), class_subset='imagenet_a'), samples, classes=200)
    assert (result['top1'], result['top2'], result['n']) == (50.0, 100.0, 2)
    assert evaluate(Accuracy((1,)), samples, classes=1000)['top1'] == 0


def test_real_accuracy_by_hand() -> None:
    assert evaluate(ReaLAccuracy((1, 2)), REAL) == REAL_ANSWER


@pytest.mark.parametrize('processes', [1, 2, 3])
def test_real_accuracy_is_exact_when_shuffled_and_padded(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    order = [*REAL, *REAL[: -len(REAL) % processes]]  # as a distributed sampler pads
    random.Random(processes).shuffle(order)
    shares = [order[rank::processes] for rank in range(processes)]
    metrics = [ReaLAccuracy((1, 2)) for _ in range(processes)]
    assert on_processes(monkeypatch, metrics, shares) == REAL_ANSWER


def test_uneven_shares_count_every_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [predicted(i, [1.0, 0.0], label=int(i == 6)) for i in range(7)]
    metrics = [Accuracy((1,)), Accuracy((1,))]
    result = on_processes(monkeypatch, metrics, [samples[:5], samples[3:]])
    assert result['top1'] == pytest.approx(100 * 6 / 7) and result['n'] == 7


def test_evaluating_again_starts_afresh() -> None:
    metric = Accuracy((1,))
    evaluate(metric, [predicted(0, [1.0, 0.0], 1)])
    assert evaluate(metric, [predicted(1, [1.0, 0.0], 0)])['top1'] == 100


def test_nothing_scored_gives_no_number() -> None:
    assert evaluate(ReaLAccuracy(), [predicted(0, [0.1] * 5, accepted=[])]) == dict(n=0, excluded=1)


def test_prefix_tells_two_metrics_apart() -> None:
    assert set(evaluate(Accuracy((1,), prefix='a'), [predicted(0, [1.0, 0.0])])) == {
        'a/top1',
        'a/loss',
        'a/n',
    }


def test_class_list_of_data_and_head() -> None:
    with pytest.raises(DataError, match="'toy' has 4 classes but 2 are scored"):
        evaluate(Accuracy((1,)), [predicted(0, [1.0, 0.0])], classes=4)


def test_label_out_of_range() -> None:
    with pytest.raises(DataError, match="label 2 of image 0 of 'toy' is outside the 2 scored classes"):
        evaluate(Accuracy((1,)), [predicted(0, [1.0, 0.0], 2)])


def test_more_ranks_than_classes() -> None:
    with pytest.raises(ConfigError, match=r'topk=\(1, 5\) asks for more than the 2'):
        evaluate(Accuracy(), [predicted(0, [1.0, 0.0])])


def test_subset_needs_imagenet_logits() -> None:
    with pytest.raises(ConfigError, match="class_subset='imagenet_r' picks columns of 1000 .* gives 2"):
        evaluate(Accuracy((1,), class_subset='imagenet_r'), [predicted(0, [1.0, 0.0])])


def test_scores_that_are_no_numbers_are_refused() -> None:
    """A NaN sorts first and would count as right where it stands at the label."""
    with pytest.raises(DataError, match=r"scores of image 1 of 'toy' are not numbers \(NaN\).*precision"):
        evaluate(Accuracy((1,)), [predicted(0, [0.0, 1.0]), predicted(1, [float('nan'), 1.0])])


@pytest.mark.parametrize('topk', [(), (0,), (1, -5)])
def test_impossible_k_are_refused(topk: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match='topk='):
        Accuracy(topk)


def test_real_needs_sets_of_classes() -> None:
    with pytest.raises(ConfigError, match="images of 'toy' carry no sets of accepted classes"):
        evaluate(ReaLAccuracy((1,)), [predicted(0, [0.0, 1.0])])
