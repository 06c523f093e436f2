"""Pictures with generated captions for the report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from internvl_mm.engine.hooks import SamplePicturesHook
from internvl_mm.evaluation.report import PICTURES
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.structures import ImageSample


def described(index: int, caption: str) -> ImageSample:
    facts = dict(
        dataset='captions_zh', index=index, path=None, references=['一个红色的3。', '图片中有一个数字：3。']
    )
    return ImageSample(metainfo=dict(facts, pred_caption=caption))


def test_captions_are_kept_with_what_is_true(tmp_path: Path) -> None:
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=None)))
    runner = SimpleNamespace(log_dir=tmp_path, val_dataloader=loader)
    hook, pixels = SamplePicturesHook(samples=1, mistakes=1), torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    captions = ['一个红色的3', '一个红色的3。', '一个蓝色的3。']  # the full stop does not count
    hook.before_val_epoch(runner)
    outputs = [described(index, caption) for index, caption in enumerate(captions)]
    hook.after_val_iter(runner, 0, dict(inputs=pixels), outputs)
    hook.after_val_epoch(runner)
    rows = json.loads((tmp_path / PICTURES).read_text('utf-8'))
    assert [(row['index'], row['correct']) for row in rows] == [(0, True), (2, False)]
    page = write_report(tmp_path).read_text('utf-8')
    assert '✗ <b>一个蓝色的3。</b><br>is 一个红色的3。' in page
