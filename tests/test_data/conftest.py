"""What the tests of this room share."""

from __future__ import annotations

import datasets as hf
import pytest


@pytest.fixture(autouse=True)
def own_table_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the ``datasets`` library caches out of the user's home."""
    monkeypatch.setattr(hf.config, 'HF_DATASETS_CACHE', str(tmp_path_factory.mktemp('hf_cache')))
