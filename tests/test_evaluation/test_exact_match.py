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
    shares = {name: value for name, value in results.items() if not name.endswith(('_low', '_high'))}
    assert shares == dict(exact_match=75.0, exact_match_count=50.0, exact_match_where=100.0, n=4)
    assert list(measure(samples, by_kind=False)) == [
        'exact_match',
        'exact_match_low',
        'exact_match_high',
        'n',
    ]


def test_intervals_are_of_the_questions_of_a_kind() -> None:
    results = measure(predicted(('3', ['3'], 'count'), ('4', ['3'], 'count'), ('left', ['left'], 'where')))
    # Wilson's of one hit of two, and of one of one.
    assert (results['exact_match_count_low'], results['exact_match_count_high']) == pytest.approx(
        (9.453, 90.547), abs=1e-3
    )
    assert results['exact_match_where_low'] == pytest.approx(20.655, abs=1e-3)


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
