"""Slide inference with windows in batches against one window at a time: ≥ 1.3 × on CPUs in bf16, the same label maps.

    python benchmarks/run.py slide_speed

The peer is mmseg's own ``EncoderDecoder.slide_inference`` with the same backbone, neck and head. The gain comes from
small matrix products that become larger; it is least where one window fills the machine.
"""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from mmseg.models import EncoderDecoder, UPerHead
from torch import Tensor, nn

from benchmarks.harness import Row, compare, interleave
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.inference import SlideInference
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter

GOAL = 1.3
CROP, STRIDE = 56, 28
# Width, heads and head channels: the tiny quickstart model, and a ViT-S.
SIZES = {'ViT of 96': (96, 4, 32), 'ViT of 384': (384, 6, 64)}


def build(width: int, heads: int, channels: int) -> Segmenter:
    """A task with UperNet on four blocks."""
    return Segmenter(
        backbone=dict(
            type=InternViT,
            hidden_size=width,
            num_hidden_layers=4,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            image_size=CROP,
            out_indices=(0, 1, 2, 3),
        ),
        neck=dict(type=MultiScaleNeck),
        decode_head=dict(
            type=UPerHead,
            in_index=[0, 1, 2, 3],
            channels=channels,
            num_classes=11,
            norm_cfg=dict(type=nn.BatchNorm2d),
        ),
        inference=dict(type=SlideInference, crop_size=CROP, stride=STRIDE, batch_size=16),
    ).eval()


class OneByOne(EncoderDecoder):
    """mmseg's loop over windows around the logits of a task."""

    def __init__(self, task: Segmenter):
        nn.Module.__init__(self)
        self.task, self.out_channels = task, task.num_classes
        self.test_cfg = ConfigDict(crop_size=(CROP, CROP), stride=(STRIDE, STRIDE))

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits of one window."""
        return self.task.logits(inputs)


def run(quick: bool = False) -> list[Row]:
    """Measure every size; the gate is that label maps agree."""
    torch.manual_seed(0)
    rows = []
    pixels = torch.randn(1, 3, 4 * CROP, 4 * CROP)  # 49 windows
    for name, sizes in SIZES.items():
        task = build(*sizes)
        theirs = OneByOne(task)

        def ours(task: Segmenter = task) -> Tensor:
            with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
                return task.inference(task.logits, pixels)

        def single(theirs: OneByOne = theirs) -> Tensor:
            with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
                return theirs.slide_inference(pixels, [{}])

        agreement = (ours().argmax(1) == single().argmax(1)).float().mean().item()
        assert agreement > 0.98, f'{name}: only {agreement:.3f} of the pixels agree'
        seconds = interleave({'ours': ours, 'one by one': single}, rounds=3 if quick else 7, warmup=1)
        note = f'49 windows of {CROP} pixels in batches of 16; {100 * agreement:.1f} % of pixels agree'
        rows.append(compare(name, seconds, 'one by one', goal=GOAL, note=note))
    return rows
