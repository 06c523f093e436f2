"""How dense predictions of an image are put together: in one piece, or from overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError

# Pixels [B, 3, h, w] to logits [B, C, h, w].
Logits = Callable[[Tensor], Tensor]
# Top, left, bottom, right, in pixels.
Box = tuple[int, int, int, int]


@MODELS.register_module()
class WholeInference:
    """The image in one piece."""

    def __call__(self, logits: Logits, pixels: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` of pixels ``[B, 3, H, W]``."""
        return logits(pixels)


@MODELS.register_module()
class SlideInference:
    """Square windows whose logits are averaged where they overlap, several windows per forward pass.

    The windows are exactly the published ones: along each side ``max(size - crop + stride - 1, 0) // stride + 1`` of
    them, ``stride`` apart, the last one pushed back into the image. A side shorter than the window is taken as it is.

    Args:
        crop_size: Side of the windows in pixels, a multiple of the patch.
        stride: Pixels from one window to the next.
        batch_size: Windows per forward pass. It changes speed and memory (in fp32, 150 classes take 150 MB per window
            of 504 pixels), and results by rounding alone.

    Raises:
        ConfigError: The windows would leave gaps.

    Source: mmsegmentation ``EncoderDecoder.slide_inference``, which takes one window at a time.
    """

    def __init__(self, crop_size: int, stride: int, *, batch_size: int = 8):
        check_counts(crop_size=crop_size, stride=stride, batch_size=batch_size)
        if stride > crop_size:
            raise ConfigError(
                f'stride={stride} is larger than crop_size={crop_size}: pixels between windows would be left out'
            )
        self.crop_size, self.stride, self.batch_size = crop_size, stride, batch_size

    def windows(self, height: int, width: int) -> list[Box]:
        """Windows (top, left, bottom, right) of an image, all of one size, row by row."""
        rows, columns = list(self._spans(height)), list(self._spans(width))
        return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]

    def _spans(self, size: int) -> Iterator[tuple[int, int]]:
        # The last window is moved back to the border rather than padded, as in mmsegmentation.
        for index in range(max(size - self.crop_size + self.stride - 1, 0) // self.stride + 1):
            end = min(index * self.stride + self.crop_size, size)
            yield max(end - self.crop_size, 0), end

    def __call__(self, logits: Logits, pixels: Tensor) -> Tensor:
        """Averaged logits ``[B, C, H, W]`` in fp32 of pixels ``[B, 3, H, W]``."""
        height, width = pixels.shape[-2:]
        # All windows of all images: small images of a batch share a forward pass, too.
        jobs = [(image, box) for image in range(len(pixels)) for box in self.windows(height, width)]
        total: Tensor | None = None
        counts = pixels.new_zeros(len(pixels), 1, height, width, dtype=torch.float32)
        for start in range(0, len(jobs), self.batch_size):
            chosen = jobs[start : start + self.batch_size]
            # [b, 3, h, w]: all windows have one size.
            crops = torch.stack(
                [pixels[image, :, top:bottom, left:right] for image, (top, left, bottom, right) in chosen]
            )
            for (image, (top, left, bottom, right)), part in zip(chosen, logits(crops), strict=True):
                if total is None:  # the number of classes is known only now
                    total = part.new_zeros(len(pixels), len(part), height, width, dtype=torch.float32)
                total[image, :, top:bottom, left:right] += part
                counts[image, :, top:bottom, left:right] += 1
        assert total is not None
        # Windows leave no gap, so that no count is 0.
        return total.div_(counts)
