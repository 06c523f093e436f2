"""Exact match of generated answers."""

from __future__ import annotations

import pytest

from internvl_mm.evaluation.metrics import ExactMatch


def predicted(*rows: tuple[str, list[str], str]) -> list[dict]:
    return [
        dict(dataset='toy', index=index, pred_answer=answer, answers=answers, kind=kind)
        for index, (answer, answers, kind) in enumerate(rows)
    ]


def measure(samples: list[dict], **options) -> dict[str, float]:
    metric = ExactMatch(**options)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_share_of_all_and_by_kind() -> None:
    samples = predicted(
        ('3', ['3'], 'count'),
        ('4', ['3'], 'count'),
        ('top left', ['left', 'Top left'], 'where'),
        ('1', ['1'], ''),
    )
    results = measure(samples)
    assert results == dict(exact_match=75.0, exact_match_count=50.0, exact_match_where=100.0, n=4)
    assert measure(samples, by_kind=False) == dict(exact_match=75.0, n=4)


@pytest.mark.parametrize(
    ('answer', 'right'),
    [
        ('Top  Left.', True),
        (' top left ', True),
        ('top-left', False),
        ('top left corner', False),
        ('', False),
    ],
)
def test_what_does_not_count(answer: str, right: bool) -> None:
    assert measure(predicted((answer, ['top left'], '')))['exact_match'] == 100.0 * right
