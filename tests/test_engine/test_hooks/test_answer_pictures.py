"""Pictures with questions and answers for the report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from internvl_mm.engine.hooks import AnswerPicturesHook
from internvl_mm.evaluation.report import PICTURES
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.structures import QuestionSample


def question(index: int, answer: str, tiles: int = 1) -> QuestionSample:
    facts = dict(dataset='digit_chat', index=index, path=None, kind='count', question=f'How many? {index}')
    sample = QuestionSample(metainfo=dict(facts, answers=['two']))
    sample.pred_answer = answer
    return sample


def test_first_questions_and_first_mistakes_are_kept_with_their_first_tile(tmp_path: Path) -> None:
    counts = [2, 1, 0, 1, 1]
    tiles = torch.arange(sum(counts), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    batch = dict(inputs=SimpleNamespace(tiles=tiles, num_tiles=torch.tensor(counts)))
    answers = ['Two.', 'two', 'five', 'two', 'three']  # the third is about text alone
    hook, runner = AnswerPicturesHook(samples=1, mistakes=1), SimpleNamespace(log_dir=tmp_path)
    hook.before_val_epoch(runner)
    outputs = [question(index, answer) for index, answer in enumerate(answers)]
    hook.after_val_iter(runner, 0, batch, outputs)
    hook.after_val_epoch(runner)
    rows = json.loads((tmp_path / PICTURES).read_text('utf-8'))
    assert [(row['index'], row['prediction'], row['correct']) for row in rows] == [
        (0, 'Two.', True),
        (4, 'three', False),
    ]
    assert hook._pictures['digit_chat'][4][1].unique().tolist() == [4]  # its own tile
    page = write_report(tmp_path).read_text('utf-8')
    assert 'How many? 4<br>✗ <b>three</b><br>is two' in page
