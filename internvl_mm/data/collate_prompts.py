"""Lists of questions to prompts, and of preferences to pairs of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from internvl_mm.data.collate_chat import collate_chat
from internvl_mm.registry import FUNCTIONS
from internvl_mm.structures import BadSample


@FUNCTIONS.register_module()
def collate_questions(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """Put prompts side by side, with the samples that wait for answers.

    Args:
        items: What a data set of questions gives: ``dict(inputs=ChatSample, data_samples=QuestionSample)``.

    Returns:
        ``dict(inputs=ChatBatch, data_samples=list[QuestionSample], bad_samples=list[BadSample])``.

    Raises:
        DataError: No sample of the batch is usable.
    """
    batch = collate_chat(items)
    # Instead of collate_chat's headlines: metrics compare with the answers that these hold.
    batch['data_samples'] = [item['data_samples'] for item in items if not isinstance(item, BadSample)]
    return batch


@FUNCTIONS.register_module()
def collate_preferences(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """Put all chosen answers above all rejected ones, with the tiles they share once.

    Args:
        items: What a data set of preferences gives: ``dict(inputs=[chosen, rejected])``.

    Returns:
        As :func:`collate_chat`, of 2N rows; ``tiles`` are those of the first N.

    Raises:
        DataError: No sample of the batch is usable.
    """
    bad = [item for item in items if isinstance(item, BadSample)]
    good = [item for item in items if not isinstance(item, BadSample)]
    bad += [sample for item in good for sample in item.get('bad_samples', ())]
    pairs = [item['inputs'] for item in good]
    # Row i and row N + i are a pair.
    rows = [pair[0] for pair in pairs] + [
        replace(pair[1], tiles=pair[1].tiles[:0])
        for pair in pairs  # those of the chosen answer count
    ]
    # Bad samples alone go there to be refused, with their reasons.
    batch = collate_chat([dict(inputs=row) for row in rows] or bad)
    return dict(batch, bad_samples=bad)
