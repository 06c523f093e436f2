"""Caption scores against pycocoevalcap, and words against the Treebank's tokeniser."""

from __future__ import annotations

import random
import shutil

import pytest

from internvl_mm.evaluation.caption_scores import CiderScorer, bleu, longest_common, rouge_l
from internvl_mm.evaluation.caption_words import split_caption
from internvl_mm.evaluation.metrics import CaptionExactMatch, CaptionScores, JavaCaptionScores, java_captions
from internvl_mm.utils.errors import ConfigError

Sentences = list[list[str]]


def drawn(images: int = 30) -> tuple[Sentences, list[Sentences]]:
    """Random captions, also empty ones, with one to five references each."""
    draws = random.Random(0)

    def sentence(shortest: int) -> list[str]:
        return [draws.choice('abcdefgh') for _ in range(draws.randint(shortest, 12))]

    captions = [sentence(0) for _ in range(images)]
    return captions, [[sentence(1) for _ in range(draws.randint(1, 5))] for _ in range(images)]


def by_image(sentences: list[Sentences]) -> dict[int, list[str]]:
    return {number: [' '.join(words) for words in group] for number, group in enumerate(sentences)}


def test_scores_are_those_of_pycocoevalcap() -> None:
    cider = pytest.importorskip('pycocoevalcap.cider.cider', reason='pip install pycocoevalcap')
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    captions, references = drawn()
    truth, said = by_image(references), by_image([[words] for words in captions])
    theirs = cider.Cider().compute_score(truth, said)[1]
    assert CiderScorer(references).robust(captions) == pytest.approx(theirs.tolist(), abs=1e-9)
    assert bleu(captions, references) == pytest.approx(
        Bleu().compute_score(truth, said, verbose=0)[0], abs=1e-9
    )
    ours = [rouge_l(words, group) for words, group in zip(captions, references, strict=True)]
    assert ours == pytest.approx(Rouge().compute_score(truth, said)[1].tolist(), abs=1e-9)


def test_plain_cider_is_the_mean_cosine() -> None:
    """By hand: 'a b' and 'c d' share nothing and each occurs in one of two images."""
    scorer = CiderScorer([[['a', 'b']], [['c', 'd']]])
    # Orders 1 and 2 agree fully, 3 and 4 have nothing to compare.
    assert scorer.plain([['a', 'b'], ['a', 'b']]) == pytest.approx([5.0, 0.0])
    # Repetition: cosine of (2, 1) and (1, 1) in words; in pairs, 'a a', 'a b' and 'a b' of weight ln 2 each.
    again = scorer.plain([['a', 'a', 'b'], []])[0]
    assert again == pytest.approx(10 / 4 * (3 / 10**0.5 + 1 / 2**0.5))
    clipped = scorer.robust([['a', 'a', 'b'], []])[0]
    assert clipped < again


def test_common_subsequences() -> None:
    assert longest_common('a b c d'.split(), 'b x d'.split()) == 2
    assert longest_common([], ['a']) == 0


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ("A man's dog doesn't sit, on a T-shirt.", "a man 's dog does n't sit on a t-shirt"),
        ('The picture shows one digit: 3.', 'the picture shows one digit 3'),
        ('一个红色的3。', '一 个 红 色 的 3'),
        ('（红色的）《3》，在「左」边！', '红 色 的 3 在 左 边'),
        ('At 12:30 it costs $1,000 (cash) -- in the U.S.', 'at 12:30 it costs $ 1,000 cash in the u.s.'),
        ('A 2-year-old cannot eat; "why?"', 'a 2-year-old can not eat why'),
        ('A cafe\u0301 in Qu\u0308xda\u0302, o\u0323\u0308s', 'a café in qüxdâ ọ\u0308s'),
        ('हिन्दी में कुत्ता।', 'हिन्दी में कुत्ता ।'),
        ('', ''),
    ],
)
def test_words_of_a_caption(text: str, words: str) -> None:
    assert split_caption(text) == words.split()


def predicted(*rows: tuple[str, list[str], str]) -> list[dict]:
    return [
        dict(dataset='toy', index=index, pred_caption=caption, references=references, language=language)
        for index, (caption, references, language) in enumerate(rows)
    ]


def test_scores_of_a_set() -> None:
    samples = predicted(
        ('A red red 3.', ['A red 3.', 'A red red 3.'], 'en'), ('一个蓝色的4。', ['一个红色的4。'], 'zh')
    )
    metric, exact = CaptionScores(prefix='slot'), CaptionExactMatch()
    for measure in (metric, exact):
        measure.process(None, samples)
    found = metric.evaluate(2)
    assert set(found) == {f'slot/{name}' for name in metric.reported()}
    assert found['slot/n'] == 2 and found['slot/words'] == 5.0
    assert 0 < found['slot/cider_d'] < found['slot/cider'] < 1000
    assert found['slot/cider_d_low'] < found['slot/cider_d'] < found['slot/cider_d_high']
    assert found['slot/bleu1'] == pytest.approx(100 * 9 / 10)
    shares = exact.evaluate(2)
    assert (shares['exact_match'], shares['exact_match_en'], shares['exact_match_zh']) == (50.0, 100.0, 0.0)
    assert CaptionScores().compute_metrics([]) == dict(n=0)


def test_samples_without_caption_or_references_are_told() -> None:
    for sample in (
        dict(dataset='toy', references=['a']),
        dict(dataset='toy', pred_caption='a', references=[]),
    ):
        with pytest.raises(ConfigError, match="images of 'toy' come without caption or without references"):
            CaptionScores().score([sample])


def test_scores_of_java_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="use 'meteor' and 'spice'.*Did you mean 'meteor'"):
        JavaCaptionScores(scores=('meteor', 'metoer'))
    monkeypatch.setattr(java_captions.shutil, 'which', lambda name: None)
    with pytest.raises(ConfigError, match='meteor are Java programs, and there is no `java`'):
        JavaCaptionScores()
    monkeypatch.setattr(java_captions.shutil, 'which', lambda name: '/usr/bin/java')
    monkeypatch.setitem(java_captions._SCORERS, 'spice', ('pycocoevalcap.absent', 'Spice'))
    with pytest.raises(ConfigError, match='spice need pycocoevalcap'):
        JavaCaptionScores(scores=('spice',))


def test_scores_of_java_join_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a program of Python in its place; the words it gets are those of the other scores."""
    seen = []

    class Fake:
        def compute_score(self, truth: dict, said: dict) -> tuple[float, list[float]]:
            seen.append((truth, said))
            return 0.25, []

    metric = JavaCaptionScores(scores=())
    metric._scorers = dict(meteor=Fake)
    metric.process(None, predicted(("A man's hat.", ['The hat.'], 'en')))
    found = metric.evaluate(1)
    assert found['meteor'] == 25.0 and set(found) == set(metric.reported())
    assert seen == [({0: ['the hat']}, {0: ["a man 's hat"]})]
    assert metric.compute_metrics([]) == dict(n=0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('java') is None, reason='METEOR is a Java program')
def test_meteor_is_that_of_pycocoevalcap_with_its_own_tokeniser() -> None:
    metric = JavaCaptionScores()
    truth = [
        ['A man riding a horse on the beach.', 'Someone is on a brown horse.'],
        ['Two dogs playing in the snow.'],
    ]
    said = ['A man rides a brown horse.', 'Two dogs play.']
    metric.process(None, predicted(*zip(said, truth, ['en', 'en'])))
    # Meteor().compute_score of what PTBTokenizer makes of the same captions (pycocoevalcap 1.2, Java 17).
    assert metric.evaluate(2)['meteor'] == pytest.approx(32.02510487890788, abs=1e-9)
