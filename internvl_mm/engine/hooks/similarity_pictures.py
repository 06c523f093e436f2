"""Keeps how similar test pictures and texts were found, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from PIL import Image

from internvl_mm.engine.loops import BenchmarkLoop
from internvl_mm.evaluation.report_html_similarity import picture_file
from internvl_mm.evaluation.similarity import (
    SIMILARITY,
    Similarity,
    Table,
    caption_table,
    class_table,
    compare,
    picture_key,
    write_similarity,
)
from internvl_mm.registry import HOOKS
from internvl_mm.utils.errors import did_you_mean

from ._runner import task_of

SIDE = 112  # pixels a kept picture is at most wide and high: twice what the report shows


@HOOKS.register_module()
class SimilarityPicturesHook(Hook):
    """Writes a matrix of similarities and nearest neighbours of each benchmark into ``similarity/`` of the run folder.

    For image–text tasks: what ``predict`` gave is compared again, nothing is encoded a second time. Pictures are
    compared with their captions; those of a benchmark without captions with the first sentence of each class, by their
    zero-shot scores. Other benchmarks are left out. A later evaluation of the same run replaces all.

    Args:
        benchmarks: Names of the benchmarks to show; all when empty. The log warns of those that are not measured.
        shown: Rows and columns of the matrix, at most.
        queries: Texts and pictures whose neighbours are shown.
        nearest: Neighbours of each.
        pairs: Samples of a benchmark that are compared, from the first; with several processes, of the main one's.
    """

    def __init__(
        self,
        benchmarks: Sequence[str] = (),
        *,
        shown: int = 10,
        queries: int = 4,
        nearest: int = 5,
        # 1,000 thumbnails are 38 MB at most, and COCO's first 1,000 pairs hold 200 pictures.
        pairs: int = 1000,
    ):
        self.benchmarks, self.pairs = tuple(benchmarks), pairs
        self._counts = dict(shown=shown, queries=queries, nearest=nearest)
        self._forget()

    def before_train(self, runner: FlexibleRunner) -> None:
        """Look for the named benchmarks before hours of training."""
        if runner.val_loop is not None:
            self._look_for(runner, runner.val_loop)

    def before_test(self, runner: FlexibleRunner) -> None:
        """Look for the named benchmarks."""
        self._look_for(runner, runner.test_loop)

    def _look_for(self, runner: FlexibleRunner, loop: BenchmarkLoop) -> None:
        # No error: a test may measure only some of the benchmarks of a config.
        for name in self.benchmarks:
            if name not in loop.loaders:
                hint = did_you_mean(name, loop.loaders) or f' There are: {", ".join(loop.loaders)}.'
                runner.logger.warning(f"SimilarityPicturesHook: benchmark '{name}' is not measured.{hint}")

    def _forget(self) -> None:
        # benchmark -> (data set, index) -> sample, and benchmark -> key -> thumbnail
        self._samples: dict[str, dict[tuple[str, int], Any]] = {}
        self._thumbnails: dict[str, dict[int, Image.Image]] = {}

    def _before_epoch(self, runner: FlexibleRunner, mode: str = 'train') -> None:
        if mode != 'train':
            self._forget()

    def _after_iter(
        self,
        runner: FlexibleRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        if mode == 'train' or not is_main_process():
            return
        name = (runner.val_loop if mode == 'val' else runner.test_loop).current
        if self.benchmarks and name not in self.benchmarks:
            return
        for pixels, sample in zip(data_batch['inputs'], outputs or ()):
            if 'pred_text' in sample or ('pred_image' in sample and 'pred_logits' in sample):
                self._keep(name, pixels, sample)

    def _keep(self, name: str, pixels: torch.Tensor, sample: Any) -> None:
        kept = self._samples.setdefault(name, {})
        key = sample.dataset, sample.index
        if key in kept or len(kept) >= self.pairs:  # measured again, with averaged weights; or enough
            return
        # Off the device, where a thousand of them would wait for the end of the evaluation.
        kept[key] = sample.cpu()
        thumbnails = self._thumbnails.setdefault(name, {})
        if picture_key(sample) not in thumbnails:
            # uint8 [3, H, W], as collated.
            picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
            picture.thumbnail((SIDE, SIDE))
            thumbnails[picture_key(sample)] = picture

    def _after_epoch(self, runner: FlexibleRunner, mode: str = 'train') -> None:
        if mode == 'train' or not self._samples:
            return
        found = [
            compare(_table(list(samples.values()), task_of(runner)), name, **self._counts)
            for name, samples in self._samples.items()
        ]
        # Without labels nothing is right, and there is nothing to choose by.
        found = [figure for figure in found if figure.matrix]
        folder = (Path(runner.log_dir) / SIMILARITY).parent
        # Other pictures may be near this time; the old ones would stay for ever.
        for old in folder.glob('*.png'):
            old.unlink()
        write_similarity(runner.log_dir, found)
        for figure in found:
            self._write_pictures(folder, figure)

    def _write_pictures(self, folder: Path, figure: Similarity) -> None:
        for rows in (figure.matrix, figure.of_texts):  # pictures with neighbours are in the matrix
            for key in {match.picture for row in rows for match in row}:
                picture = self._thumbnails[figure.benchmark][key]
                picture.save(folder / picture_file(figure.benchmark, key))


def _table(samples: list[Any], task: Any) -> Table:
    if 'pred_text' in samples[0]:
        return caption_table(samples)
    prompts = task.class_prompts[samples[0].dataset]
    return class_table(samples, [sentences[0] for sentences in prompts.sentences()])
