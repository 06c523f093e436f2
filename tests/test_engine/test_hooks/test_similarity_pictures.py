"""Similar pictures and texts on their way from predictions to the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from internvl_mm.engine.hooks import SimilarityPicturesHook
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.evaluation.similarity import SIMILARITY, read_similarity
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.structures import ImageSample


def runner(folder: Path) -> SimpleNamespace:
    loop = SimpleNamespace(loaders=dict.fromkeys(('pairs', 'classes', 'plain')), current='pairs')
    model = SimpleNamespace(class_prompts={'toy': ClassPrompts(('0', '1'), ('digit {c}', 'a {c}'))})
    return SimpleNamespace(log_dir=folder, model=model, val_loop=loop, test_loop=loop)


def predicted(index: int, caption: str | None = None, *, size: int = 2) -> ImageSample:
    """Of two classes in turn; picture and caption are one unit vector per class."""
    sample = ImageSample.labelled(index % size, dataset='toy', index=index)
    sample.pred_image = F.one_hot(torch.tensor(index % size), size).float()
    if caption is None:
        sample.pred_logits = 100 * sample.pred_image
    else:
        sample.set_metainfo(dict(caption=caption, image_id=index))
        sample.pred_text = sample.pred_image.clone()
    return sample


def evaluate(hook: SimilarityPicturesHook, run: SimpleNamespace, outputs: dict[str, list]) -> None:
    hook.before_val_epoch(run)
    for run.val_loop.current, samples in outputs.items():
        # A bright picture of its own for each sample, larger than what is kept.
        pixels = torch.arange(len(samples), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 200, 100)
        for _ in range(2):  # EMAHook measures a second time
            hook.after_val_iter(run, 0, dict(inputs=pixels), samples)
    hook.after_val_epoch(run)


def test_captions_and_classes_reach_the_report(tmp_path: Path) -> None:
    hook, run = SimilarityPicturesHook(), runner(tmp_path)
    plain = ImageSample.labelled(0, dataset='toy', index=0)  # not embedded: a caption was generated
    outputs = dict(
        pairs=[predicted(index, f'caption {index % 2}') for index in range(6)],
        classes=[predicted(index) for index in range(4)],
        plain=[plain],
    )
    evaluate(hook, run, outputs)
    pairs, classes = read_similarity(tmp_path)
    assert (pairs.benchmark, pairs.kind, pairs.pictures, pairs.texts) == ('pairs', 'caption', 6, 2)
    assert [[match.score for match in row] for row in pairs.matrix] == [[1, 0], [0, 1]]
    assert [match.right for match in pairs.of_texts[0]] == [True] * 3 + [False] * 2
    assert (classes.kind, [row[0].text for row in classes.matrix]) == (
        'class sentence',
        ['digit 0', 'digit 1'],
    )
    assert [match.score for match in classes.of_pictures[1]] == [1, 0]
    page = write_report(tmp_path).read_text('utf-8')
    assert 'Similarity of pictures and captions' in page and 'Class sentences nearest to a picture' in page


def test_only_named_benchmarks_and_first_pairs_are_kept_small(tmp_path: Path) -> None:
    hook, run = SimilarityPicturesHook(['pairs'], pairs=3), runner(tmp_path)
    many = [predicted(index, f'caption {index}', size=50) for index in range(50)]
    evaluate(hook, run, dict(pairs=many, classes=[predicted(0)]))
    (found,) = read_similarity(tmp_path)
    assert (found.benchmark, found.pictures, len(found.matrix)) == ('pairs', 3, 3)
    assert hook._thumbnails['pairs'][2].size == (56, 112)
    assert hook._thumbnails['pairs'][2].getpixel((0, 0)) == (2, 2, 2)
    # A later evaluation leaves no picture of this one.
    evaluate(hook, run, dict(pairs=many[:1]))
    assert [path.name for path in (tmp_path / SIMILARITY).parent.glob('*.png')] == ['pairs_000000.png']


def test_without_pairs_or_labels_nothing_is_shown(tmp_path: Path) -> None:
    hook, run = SimilarityPicturesHook(), runner(tmp_path)
    evaluate(hook, run, dict(plain=[ImageSample.labelled(0, dataset='toy', index=0)]))
    assert not (tmp_path / SIMILARITY).exists()
    unlabelled = predicted(0)
    del unlabelled.gt_label
    evaluate(hook, run, dict(classes=[unlabelled]))
    assert read_similarity(tmp_path) == []


def test_benchmarks_that_are_not_measured_are_told_before_training(tmp_path: Path) -> None:
    hook, run, told = SimilarityPicturesHook(['pair', 'plain']), runner(tmp_path), []
    run.logger = SimpleNamespace(warning=told.append)
    hook.before_train(run)
    hook.before_test(run)
    run.val_loop = None  # a run without validation
    hook.before_train(run)
    assert len(told) == 2 and told[0] == told[1]
    assert "benchmark 'pair' is not measured." in told[0] and 'pairs' in told[0]
