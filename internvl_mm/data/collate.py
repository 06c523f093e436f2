"""List of samples to batch."""

from __future__ import annotations

from typing import Any

from internvl_mm.registry import FUNCTIONS
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError


@FUNCTIONS.register_module()
def collate_samples(items: list[dict[str, Any] | BadSample]) -> dict[str, list]:
    """Put samples side by side and bad samples aside; nothing is stacked, so that pictures may differ in size.

    Args:
        items: What a data set gives: ``dict(inputs, data_samples)``, with ``bad_samples`` where another sample was
            taken instead, or a :class:`BadSample`.

    Returns:
        ``dict(inputs=list[Tensor], data_samples=list[ImageSample], bad_samples=list[BadSample])``.

    Raises:
        DataError: No sample of the batch is usable.
    """
    good = [item for item in items if not isinstance(item, BadSample)]
    bad = [item for item in items if isinstance(item, BadSample)]
    if not good:
        reasons = ''.join(f'\n  {sample.dataset}[{sample.index}]: {sample.reason}' for sample in bad[:3])
        raise DataError(
            f'all {len(bad)} samples of a batch are bad, the first ones:{reasons}\n'
            "Check the root folder of the data set; on_error='replace' only helps where bad samples are rare"
        )
    return dict(
        inputs=[item['inputs'] for item in good],
        data_samples=[item['data_samples'] for item in good],
        bad_samples=bad + [sample for item in good for sample in item.get('bad_samples', ())],
    )
