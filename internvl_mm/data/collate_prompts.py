"""List of questions to a batch of prompts."""

from __future__ import annotations

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
    batch['data_samples'] = [item['data_samples'] for item in items if not isinstance(item, BadSample)]
    return batch
