"""Keeps a handful of test pictures with questions and generated answers, for the report."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import FlexibleRunner

from internvl_mm.evaluation.metrics.exact_match import normalised
from internvl_mm.evaluation.report import Picture
from internvl_mm.registry import HOOKS
from internvl_mm.structures import QuestionSample

from .sample_pictures import SamplePicturesHook, file_of


@HOOKS.register_module()
class AnswerPicturesHook(SamplePicturesHook):
    """Writes the first tile of each data set's first questions and first mistakes, with question and answers.

    Args:
        samples: See :class:`SamplePicturesHook`.
        mistakes: See :class:`SamplePicturesHook`.
    """

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
        batch = data_batch['inputs']  # a ChatBatch as collated, tiles uint8
        # Where the tiles of each sample begin.
        first = batch.num_tiles.cumsum(0) - batch.num_tiles
        for number, sample in enumerate(outputs or ()):
            if batch.num_tiles[number] and 'pred_answer' in sample:
                # A copy: a view would keep the tiles of the whole batch.
                self._hold(batch.tiles[first[number]].clone(), _judge_answer(sample))


def _judge_answer(sample: QuestionSample) -> Picture:
    return Picture(
        file=file_of(sample),
        dataset=sample.dataset,
        index=sample.index,
        label=' or '.join(sample.answers),
        prediction=sample.pred_answer,
        score=None,
        correct=normalised(sample.pred_answer) in map(normalised, sample.answers),
        question=sample.question,
    )
