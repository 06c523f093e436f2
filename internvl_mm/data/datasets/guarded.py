"""What every data set promises, whatever its samples are: reproducible randomness and a policy for bad samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from internvl_mm.data.samplers import SampleIndex
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

OnError = Literal['fail', 'skip', 'replace']
POLICIES = ('fail', 'skip', 'replace')
MAX_REPLACEMENTS = 10  # tries before a sample counts as bad for good

Item = dict[str, Any]


class GuardedDataset(Dataset, ABC):
    """Index to one sample, or to the reason why there is none.

    A subclass implements ``__len__``, :meth:`load`, :meth:`path`, :attr:`metainfo` and :meth:`fingerprint`.
    ``dataset[index]`` is what :meth:`load` gives, or a :class:`BadSample` under ``on_error='skip'``. What is random in
    :meth:`load` has to be a function of (seed, epoch, index): our samplers yield :class:`SampleIndex`, which carries
    all three; for a plain ``int`` the epoch is that of :meth:`set_epoch`.

    Args:
        name: Name in results, ledgers and reports; the class's name by default.
        on_error: What a bad sample does: ``'fail'`` stops, ``'skip'`` leaves it out of its batch, ``'replace'`` takes
            another one, always the same for the same sample. The last two leave a line in the run's ledger. Samples
            longer than an encoder allows under ``overlong='drop'`` are left out under any policy.

    Raises:
        ConfigError: ``on_error`` is no policy.
    """

    def __init__(self, *, name: str | None = None, on_error: OnError = 'fail'):
        if on_error not in POLICIES:
            hint = did_you_mean(on_error, POLICIES)
            raise ConfigError(f"on_error='{on_error}' is no policy: use 'fail', 'skip' or 'replace'.{hint}")
        self.name = name or type(self).__name__
        self.on_error = on_error
        self.epoch = 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def load(self, index: SampleIndex) -> Item:
        """One sample, ready to be collated.

        Raises:
            DataError: It is bad.
        """

    @abstractmethod
    def path(self, index: int) -> str | None:
        """Where a sample comes from, for messages and reports; ``None`` if it has no file."""

    @property
    @abstractmethod
    def metainfo(self) -> dict[str, Any]:
        """What tasks, metrics and reports need to know: at least ``name``."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what decides the samples (not of the bytes in the files)."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of plain integer indices, in this process."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Item | BadSample:
        if not 0 <= index < len(self):
            # Python's own kind of error: iterating over a data set ends with it.
            raise IndexError(f"index {index} is outside data set '{self.name}' of {len(self)} samples")
        if not isinstance(index, SampleIndex):
            index = SampleIndex(index, self.epoch)
        try:
            return self.load(index)
        except DataError as error:
            reason = str(named(error, self.path(index)))
            # Samples that are too long have a policy of their own, the encoder's.
            drop = getattr(error, 'drop', False)
            if self.on_error == 'fail' and not drop:
                raise
            bad = BadSample(self.name, int(index), self.path(index), reason)
        return self._replace(index, bad) if self.on_error == 'replace' and not drop else bad

    def _replace(self, index: SampleIndex, bad: BadSample) -> Item | BadSample:
        """Another sample in place of a bad one, chosen by (seed, index); gives up after a few that are bad too."""
        choices = np.random.default_rng([index.seed, index]).integers(len(self), size=MAX_REPLACEMENTS)
        for choice in choices.tolist():
            try:
                return dict(self.load(index.to(choice)), bad_samples=[bad])
            # Not recorded here: it has its own line once it comes up as a sample.
            except DataError:
                continue
        return bad


def named(error: DataError, path: str | None) -> DataError:
    """Say in an error where its sample is from: transforms and encoders see a picture or a text, not its file."""
    # The first to say so knows: a pack would name its first sample, whichever is bad.
    if path is not None and not error.located and path not in str(error):
        # The same error, because its kind and attributes decide what follows.
        error.args = (f'{path}: {error}',)
    error.located = True
    return error
