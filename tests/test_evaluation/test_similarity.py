"""Which cells and neighbours are chosen, counted by hand, and what the page shows of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from internvl_mm.evaluation.report_html import write_report
from internvl_mm.evaluation.report_html_similarity import OPACITY, picture_file, shades
from internvl_mm.evaluation.similarity import (
    SIMILARITY,
    Match,
    Table,
    caption_table,
    class_table,
    compare,
    read_similarity,
    write_similarity,
)
from internvl_mm.structures import ImageSample


def sample(index: int, **facts: object) -> ImageSample:
    return ImageSample(metainfo=dict(dataset='toy', index=index, path=None, **facts))


def pair(index: int, image: int, caption: str, angle: float) -> ImageSample:
    """A picture at ``image`` · 90°, a caption ``angle`` degrees away from the first picture."""
    made = sample(index, image_id=image, caption=caption)
    made.pred_image = unit(90.0 * image)
    made.pred_text = unit(angle)
    return made


def unit(degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()])


PAIRS = [pair(0, 0, 'b', 0), pair(1, 0, 'c', 60), pair(2, 1, 'a', 90), pair(3, 1, 'b', 0)]


def test_pictures_and_captions_come_once_and_share_what_is_right() -> None:
    table = caption_table(PAIRS)
    assert (table.pictures, table.texts) == ([0, 1], ['b', 'c', 'a'])
    assert table.right.tolist() == [[True, True, False], [True, False, True]]
    expected = torch.tensor([[1, 0.5, 0], [0, 0.75**0.5, 1]])
    assert torch.allclose(table.scores, expected, atol=1e-6)


def test_the_matrix_has_its_pairs_on_the_diagonal_and_neighbours_are_sorted() -> None:
    found = compare(caption_table(PAIRS), 'toy', queries=1, nearest=5)
    assert [[match.text for match in row] for row in found.matrix] == [['a', 'a'], ['b', 'b']]
    assert all(found.matrix[place][place].right for place in range(2))
    assert [(m.picture, m.right) for m in found.of_texts[0]] == [(0, True), (1, True)]
    # 'b' lies on the first picture, 'c' 60 degrees away and 'a' 90.
    assert [(m.text, round(m.score, 3), m.right) for m in found.of_pictures[0]] == [
        ('b', 1.0, True),
        ('c', 0.5, True),
        ('a', 0.0, False),
    ]


def test_of_many_captions_few_are_shown_but_all_are_compared() -> None:
    count = 300
    scores = torch.eye(count)
    scores[0, 250] = 2.0
    table = Table(
        'caption', list(range(count)), [f'text {i:03}' for i in range(count)], scores, scores.bool()
    )
    found = compare(table, 'toy')
    assert len(found.matrix) == 10 and {len(row) for row in found.matrix} == {10}
    assert [len(row) for row in found.of_texts + found.of_pictures] == [5] * 8
    assert found.of_pictures[0][0].text == 'text 250'  # found among all 300
    assert (found.pictures, found.texts) == (300, 300)


def test_classes_stand_in_for_captions() -> None:
    one, several, unlabelled = sample(0), sample(1), sample(2)
    one.gt_label, several.gt_labels = torch.tensor([1]), torch.tensor([0, 2])
    for number, made in enumerate((one, several, unlabelled)):
        made.pred_logits = torch.tensor([10.0, 20, 30]) + number
    table = class_table([one, several, unlabelled], ['x', 'y', 'z'])
    assert table.scores[0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert table.right.tolist() == [[False, True, False], [True, False, True], [False] * 3]
    assert compare(class_table([unlabelled], ['x', 'y', 'z']), 'toy').matrix == []


def test_shades_span_the_matrix() -> None:
    def row(*scores: float) -> list[Match]:
        return [Match(0, 'a', score, False) for score in scores]

    assert shades([row(0.2, 0.6), row(0.4, float('nan'))]) == [[0.0, OPACITY], [OPACITY / 2, 0.0]]
    assert shades([row(0.3, 0.3)]) == [[0.0, 0.0]]


def test_the_page_shows_captions_of_any_language_as_text(tmp_path: Path) -> None:
    made = [pair(0, 0, '数字三<script>', 0), pair(1, 1, 'digit ' * 40, 90)]
    write_similarity(tmp_path, [compare(caption_table(made), 'toy/pairs')])
    for key in (0, 1):
        name = picture_file('toy/pairs', key)
        assert '/' not in name
        Image.new('RGB', (4, 4)).save((tmp_path / SIMILARITY).with_name(name))
    assert read_similarity(tmp_path) == [compare(caption_table(made), 'toy/pairs')]
    page = write_report(tmp_path).read_text('utf-8')
    # Fonts are the browser's; what data says is text, whole and harmless.
    assert '数字三&lt;script&gt;' in page and 'digit ' * 40 in page and '<script' not in page
    assert page.count('<td class="cell right"') == 2 and page.count('<td class="cell"') == 2
    assert '✓ 1.00' in page and page.count('data:image/png') == 2 + 4 + 2
