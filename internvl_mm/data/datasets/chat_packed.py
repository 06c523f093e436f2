"""Packs of conversations, planned from their sizes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch.utils.data import Dataset

from internvl_mm.data.datasets.guarded import GuardedDataset
from internvl_mm.data.pack_cache import find_plan
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import BadSample, ChatSample
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


@DATASETS.register_module()
class PackedChatDataset(GuardedDataset):
    """Index to one pack: conversations that together fill a row of tokens without exceeding it.

    ``packed[index]`` is ``dict(inputs=list[ChatSample])``; :func:`collate_packed` makes a row of it. The plan depends
    on the sizes of the samples and the seed alone, so any sampler of packs resumes exactly.

    Args:
        dataset: A :class:`ChatDataset` or :class:`ChatMixture`, or its config. Its policy for bad samples holds: they
            leave a hole in their pack.
        max_tokens: Most tokens of a pack.
        max_tiles: Most tiles of a pack, which bounds the memory of the vision model.
        seed: Of the plan.
        plan_folder: Keep the plan there: the next start, as after an interruption, reads it instead of planning, which
            takes about 13 s per million samples.

    Attributes:
        plan: The :class:`PackPlan`.

    Raises:
        DataError: No sample fits, or (``on_error='fail'``) one does not fit or cannot be measured.
    """

    def __init__(
        self,
        dataset: Dataset | dict,
        *,
        max_tokens: int = 16_384,
        max_tiles: int = 48,
        seed: int = 0,
        plan_folder: str | None = None,
    ):
        inner: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        super().__init__(name=inner.name, on_error=inner.on_error)
        self.dataset, self.seed = inner, seed
        self.max_tokens, self.max_tiles = max_tokens, max_tiles
        self.plan = find_plan(
            inner.sizes(), max_tokens=max_tokens, max_tiles=max_tiles, seed=seed, folder=plan_folder
        )
        self._report_left_out()
        console.print(
            f'{self.name}: {len(inner):,} samples in {len(self):,} packs, {self.plan.token_fill:.1%} of tokens and '
            f'{self.plan.tile_fill:.1%} of tiles used',
            highlight=False,
        )

    def __len__(self) -> int:
        return len(self.plan)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`.

        Raises:
            DataError: A sample is bad, or (under the other policies) all of the pack are.
        """
        # Each sample that is in no pack is reported by one pack, so that the ledger lists it.
        bad = [self._why_left_out(int(member)) for member in self.plan.left_out[index :: len(self)]]
        # A row that a mixture repeats is another member each time, so members are unique within a pack.
        loaded: dict[int, ChatSample] = {}
        for member in self.plan[index]:
            # Not load(): the policy for bad samples is that of the data set inside.
            item = self.dataset[index.to(member)]
            if isinstance(item, BadSample):
                bad.append(item)
            else:
                bad += item.get('bad_samples', ())
                loaded[member] = item['inputs']
        if not self._fits(loaded.values()):
            # All that keep what the plan was made with fit together.
            surprises = [member for member, sample in loaded.items() if self._larger(sample, member)]
            bad += [self._surprise(loaded.pop(member), member) for member in surprises]
        samples = list(loaded.values())
        if not samples:
            raise DataError(f'pack {int(index)}: all its samples are bad, the first: {bad[0].reason}')
        return dict(inputs=samples, bad_samples=bad)

    def path(self, index: int) -> str:
        """Where its first sample comes from."""
        return self.dataset.path(self.plan[int(index)][0])

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(self.dataset.metainfo, packs=len(self))

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        settings = [self.max_tokens, self.max_tiles, self.seed]
        return hash_settings(dict(dataset=self.dataset.fingerprint(), packing=settings))

    def _report_left_out(self) -> None:
        left_out = self.plan.left_out.tolist()
        if not left_out:
            return
        # Samples too long for the encoder may be left out under any policy, if theirs is to drop them.
        strict = (
            [i for i in left_out if not getattr(self._error(i), 'drop', False)]
            if self.on_error == 'fail'
            else []
        )
        # One example: each reason takes a reading of its sample's annotation.
        reason = self._why_left_out((strict or left_out)[0]).reason
        problem = f'{len(left_out)} of {len(self.dataset)} samples fit in no pack, for example: {reason}'
        if strict:
            raise DataError(f"{problem}. Repair them, or set on_error='skip' to record and leave them out")
        console.print(f'{self.name}: {problem}', style='yellow')

    def _error(self, member: int) -> DataError | None:
        try:
            self.dataset.measure(member)
        except DataError as error:
            return error
        return None

    def _why_left_out(self, member: int) -> BadSample:
        tokens, tiles = self.dataset.sizes()[member].tolist()
        caps = f'max_tokens={self.max_tokens} and max_tiles={self.max_tiles}'
        reason = self._error(member) or f'{tokens} tokens and {tiles} tiles are more than {caps} of a pack'
        return BadSample(self.name, member, self.dataset.path(member), str(reason))

    def _fits(self, samples: Collection[ChatSample]) -> bool:
        tokens, tiles = (sum(map(len, samples)), sum(len(sample.tiles) for sample in samples))
        return tokens <= self.max_tokens and tiles <= self.max_tiles

    def _larger(self, sample: ChatSample, member: int) -> bool:
        tokens, tiles = self.dataset.sizes()[member].tolist()
        return len(sample) > tokens or len(sample.tiles) > tiles

    def _surprise(self, sample: ChatSample, member: int) -> BadSample:
        tokens, tiles = self.dataset.sizes()[member].tolist()
        reason = (
            f'{sample.path}: has {len(sample)} tokens and {len(sample.tiles)} tiles where its annotation promised '
            f'{tokens} and {tiles}: width, height or length there are wrong, or it replaces another sample'
        )
        return BadSample(self.name, member, sample.path, reason)
