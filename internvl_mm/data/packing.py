"""Which samples share a row: a plan made from their sizes alone, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.console import progress_bar
from internvl_mm.utils.errors import DataError

WINDOW = 65_536  # samples sorted by size at a time: large enough to fill well, small enough to mix


@dataclass(frozen=True)
class PackPlan:
    """Packs in the order of training.

    Attributes:
        members: int64 ``[M]``, samples of all packs one after the other.
        starts: int64 ``[P + 1]``, where in ``members`` each pack begins and the last ends.
        left_out: int64, samples that alone exceed a cap, or whose size is unknown.
        token_fill: Mean share of the token cap that is used.
        tile_fill: Mean share of the tile cap that is used.
    """

    members: np.ndarray
    starts: np.ndarray
    left_out: np.ndarray
    token_fill: float
    tile_fill: float

    @property
    def fill(self) -> float:
        """How full packs are of what runs out first, tokens or tiles."""
        return max(self.token_fill, self.tile_fill)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, pack: int) -> list[int]:
        return self.members[self.starts[pack] : self.starts[pack + 1]].tolist()


def plan_packs(sizes: np.ndarray, *, max_tokens: int, max_tiles: int, seed: int = 0) -> PackPlan:
    """Put samples into as few packs as possible, none above either cap.

    Samples come in a random order, window by window, in each the large ones first; each goes to the open pack it fills
    best. One that has no pack opens one; packs stay open to the end, so that small samples fill gaps of earlier
    windows. The result depends on ``sizes`` and ``seed`` alone.

    Args:
        sizes: int ``[N, 2]``, tokens and tiles of each sample; below 1 token it is left out.
        max_tokens: Most tokens of a pack.
        max_tiles: Most tiles of a pack.
        seed: Of the order.

    Raises:
        DataError: No sample fits.
    """
    check_counts(max_tokens=max_tokens, max_tiles=max_tiles)
    tokens, tiles = np.ascontiguousarray(sizes[:, 0]), np.ascontiguousarray(sizes[:, 1])
    fits = (tokens >= 1) & (tokens <= max_tokens) & (tiles >= 0) & (tiles <= max_tiles)
    if not fits.any():
        raise DataError(
            f'none of {len(sizes)} samples fits into a pack of max_tokens={max_tokens} and max_tiles={max_tiles}; '
            'raise them to the longest sample you want to keep'
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(fits))
    # [N], by whichever cap the sample uses more of
    share = np.maximum(tokens / max_tokens, tiles / max_tiles)
    packer = _Packer(max_tokens, max_tiles)
    pack_of = np.empty(len(order), np.int32)
    with progress_bar() as progress:
        task = progress.add_task('planning packs', total=len(order))
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            # Small samples then fill the gaps that large ones leave.
            largest_first = np.argsort(-share[window], kind='stable')
            chosen = window[largest_first]
            packs = packer.place(tokens[chosen].tolist(), tiles[chosen].tolist())
            # pack_of runs along order: from places in the sorted window back to those in the window.
            pack_of[start + largest_first] = packs
            progress.update(task, advance=len(window))
    # Packs opened one after the other hold ever smaller samples: shuffle them too.
    rank = rng.permutation(packer.count)[pack_of]
    # Stable: members of a pack keep their order, so the plan is the same on every platform.
    sequence = np.argsort(rank, kind='stable')
    # Running totals of the sizes of the packs, [P + 1].
    starts = np.concatenate([[0], np.cumsum(np.bincount(rank, minlength=packer.count))])
    return PackPlan(
        members=order[sequence],
        starts=starts.astype(np.int64),
        left_out=np.flatnonzero(~fits),
        token_fill=float(tokens[order].sum() / (packer.count * max_tokens)),
        tile_fill=float(tiles[order].sum() / (packer.count * max_tiles)),
    )


class _Packer:
    """Open packs, found by the room they have.

    A bit set per number of free tiles says which rooms (free tokens) exist; a binary tree over the bit sets, each node
    the union of its two children, finds the smallest room that suffices among all packs with enough tiles in a few
    operations on whole numbers. Leaf r of a tree of L leaves is node L + r, the parent of node i is i // 2.
    """

    def __init__(self, max_tokens: int, max_tiles: int):
        self.max_tokens, self.max_tiles = max_tokens, max_tiles
        self.count = 0
        self._leaves = 1 << max_tiles.bit_length()  # more than max_tiles
        self._rooms = [0] * (2 * self._leaves)
        self._packs: dict[tuple[int, int], list[int]] = {}  # (free tiles, free tokens) → packs

    def place(self, tokens: list[int], tiles: list[int]) -> list[int]:
        """Pack of each sample."""
        return [self._place(*size) for size in zip(tokens, tiles)]

    def _place(self, tokens: int, tiles: int) -> int:
        # Bit r stands for a room of r free tokens: the shift drops those that are too small.
        rooms = self._with_tiles(tiles) >> tokens
        if rooms:
            # The lowest bit set is the smallest room that suffices.
            room = tokens + (rooms & -rooms).bit_length() - 1
            free = self._fewest_tiles(tiles, 1 << room)
            packs = self._packs[free, room]
            pack = packs.pop()
            if not packs:
                del self._packs[free, room]
                self._update(free, self._rooms[self._leaves + free] & ~(1 << room))
        else:
            pack, room, free = self.count, self.max_tokens, self.max_tiles
            self.count += 1
        self._put(pack, free - tiles, room - tokens)
        return pack

    def _with_tiles(self, tiles: int) -> int:
        """Rooms of all packs with so many tiles free, or more."""
        node = self._leaves + tiles
        rooms = self._rooms[node]
        while node > 1:
            # On the way up, right siblings together cover all leaves to the right of the first.
            if node % 2 == 0:
                rooms |= self._rooms[node + 1]
            node //= 2
        return rooms

    def _fewest_tiles(self, tiles: int, bit: int) -> int:
        """Fewest free tiles, not below ``tiles``, of the packs with a room."""
        node = self._leaves + tiles
        while not self._rooms[node] & bit:
            while node % 2:  # to the next node on the right
                node //= 2
            node += 1
        while node < self._leaves:
            node *= 2
            node += not self._rooms[node] & bit
        return node - self._leaves

    def _put(self, pack: int, free: int, room: int) -> None:
        # Full: every sample has at least one token, so nothing can be added.
        if room == 0:
            return
        packs = self._packs.setdefault((free, room), [])
        packs.append(pack)
        if len(packs) == 1:
            self._update(free, self._rooms[self._leaves + free] | 1 << room)

    def _update(self, free: int, rooms: int) -> None:
        node = self._leaves + free
        self._rooms[node] = rooms
        while node > 1:
            node //= 2
            self._rooms[node] = self._rooms[2 * node] | self._rooms[2 * node + 1]
