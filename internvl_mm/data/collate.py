"""List of samples to batch."""

from __future__ import annotations

from typing import Any

import torch

from internvl_mm.registry import FUNCTIONS
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError


@FUNCTIONS.register_module()
def collate_samples(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """Put samples side by side and bad samples aside.

    Pictures of one size become one tensor: what a worker sends costs a file descriptor per tensor, and for small
    pictures that takes longer than making them. Pictures of several sizes stay a list.

    Args:
        items: What a data set gives: ``dict(inputs, data_samples)``, with ``bad_samples`` where another sample was
            taken instead, or a :class:`BadSample`.

    Returns:
        ``dict(inputs=..., data_samples=list[ImageSample], bad_samples=list[BadSample])``, the inputs uint8
        ``Tensor[B, 3, H, W]`` or, for several sizes, ``list[Tensor]``.

    Raises:
        DataError: No sample of the batch is usable.
    """
    good, bad = _sorted_out(items)
    pictures = [item['inputs'] for item in good]
    # [3, H, W] each
    one_size = len({picture.shape for picture in pictures}) == 1
    return dict(
        inputs=torch.stack(pictures) if one_size else pictures,
        data_samples=[item['data_samples'] for item in good],
        bad_samples=bad,
    )


@FUNCTIONS.register_module()
def collate_lists(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """The same with pictures always in a list, as the data preprocessors of mmseg and mmdet want them.

    Args:
        items: See :func:`collate_samples`.

    Returns:
        ``dict(inputs=list[Tensor], data_samples=list, bad_samples=list[BadSample])``.

    Raises:
        DataError: No sample of the batch is usable.
    """
    good, bad = _sorted_out(items)
    return dict(
        inputs=[item['inputs'] for item in good],
        data_samples=[item['data_samples'] for item in good],
        bad_samples=bad,
    )


def _sorted_out(items: list[dict[str, Any] | BadSample]) -> tuple[list[dict[str, Any]], list[BadSample]]:
    """Usable items, and all bad samples among and inside of them."""
    good = [item for item in items if not isinstance(item, BadSample)]
    bad = [item for item in items if isinstance(item, BadSample)]
    if not good:
        # Three show whether one cause is behind all; those of a whole batch would bury it.
        reasons = ''.join(f'\n  {sample.dataset}[{sample.index}]: {sample.reason}' for sample in bad[:3])
        raise DataError(
            f'all {len(bad)} samples of a batch are bad, the first ones:{reasons}\n'
            "Check the root folder of the data set; on_error='replace' only helps where bad samples are rare"
        )
    # An item taken in place of a bad sample carries it along: the ledger lists both kinds.
    return good, bad + [sample for item in good for sample in item.get('bad_samples', ())]
