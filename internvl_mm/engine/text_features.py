"""Embeddings of texts: computed once, kept on disk by content, shared by benchmarks.

Shape letters: G groups of sentences, T sentences, L tokens, E width of the joint space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.dist import barrier, broadcast_object_list, get_dist_info
from torch import Tensor

from internvl_mm.models.tasks import ImageTextTask
from internvl_mm.preprocess.caption_tokens import pad
from internvl_mm.utils.console import progress_bar
from internvl_mm.utils.disk import check_writable
from internvl_mm.utils.hashing import hash_modules, hash_settings

from .features import WeightHashes, read_shard, write_json, write_shard

SHARD_SENTENCES = 8192  # sentences per file: seconds to minutes of work, lost at most when a run is stopped
BATCH_TOKENS = 8192  # tokens with padding per forward pass


@dataclass(frozen=True)
class TextVectors:
    """Embeddings of groups of sentences.

    Attributes:
        vectors: Unit vectors ``[G, E]`` in fp32.
        cut: Sentences of each group that were longer than the tokenizer allows, ``[G]``.
        computed: Groups all processes computed in this call; 0 when everything lay on disk.
    """

    vectors: Tensor
    cut: Tensor
    computed: int = 0


class TextCache:
    """A folder of text embeddings: one sub-folder per (weights, vocabulary, precision), files named by content.

    A group of sentences has one vector: the mean of its sentences' unit vectors, made a unit vector again. A class is
    the group of its filled-in templates, a caption a group of one; what several benchmarks ask for is computed once.
    Files appear whole or not at all, and any number of processes share the work.

    Args:
        folder: Where the cache lives; made when needed.
        hashes: Hashes of weights that are known already.
    """

    def __init__(self, folder: str | Path, hashes: WeightHashes | None = None):
        self.folder = Path(folder)
        self.hashes = hashes or WeightHashes()
        # Sub-folder to its files that were read, and group key to vector and number of cut sentences.
        self._read: dict[Path, tuple[set[str], dict[bytes, tuple[Tensor, int]]]] = {}

    def settings(self, task: ImageTextTask) -> dict[str, str]:
        """What decides the embeddings of a text; its hash names the sub-folder."""
        tensors = task.text_tensors()
        return dict(
            weights=self.hashes.hash(tensors),
            modules=hash_modules(task, tensors),
            tokenizer=task.tokenizer.fingerprint(),
            compute=str(task.autocast_dtype),
        )

    @torch.inference_mode()
    def embed(self, task: ImageTextTask, groups: Sequence[Sequence[str]], *, what: str) -> TextVectors:
        """Vectors of groups of sentences, computing only those that are not on disk.

        Args:
            task: Embeds sentences.
            groups: Sentences of each group.
            what: What they belong to, for the progress bar.

        Raises:
            UserError: The folder cannot be written to.
            DataError: A stored file cannot be read, or a file cannot be written.
        """
        task.eval()
        settings = self.settings(task)
        folder = self.folder / hash_settings(settings)[:16]  # 64 bits, as in FeatureCache
        check_writable(folder, setting='features.folder', way_out='name another')
        write_json(folder / 'settings.json', settings)
        # Of the sentences, not of the class: names that share their sentences share the vector.
        keys = [hashlib.sha256(json.dumps(list(group)).encode()).digest() for group in groups]
        known = self._known(folder)
        missing = {key: group for key, group in zip(keys, groups, strict=True) if key not in known}
        # As the first process sees it: files of another one must not shift anybody's share.
        shared = [_shards(missing)]
        broadcast_object_list(shared)
        rank, world_size = get_dist_info()
        with progress_bar() as progress:
            bar = progress.add_task(f'texts of {what}', total=len(shared[0]))
            for shard in shared[0][rank::world_size]:
                name = hashlib.sha256(b''.join(shard)).hexdigest()[:32]
                write_shard(folder / f'{name}.safetensors', _compute(task, shard))
                progress.advance(bar, world_size)
        # Whatever the other processes wrote is on the disk now.
        barrier()
        known = self._known(folder)
        found = [known[key] for key in keys]
        return TextVectors(
            torch.stack([vector for vector, _ in found]),  # [groups, E]
            torch.tensor([cut for _, cut in found]),  # [groups]
            sum(len(shard) for shard in shared[0]),
        )

    def _known(self, folder: Path) -> dict[bytes, tuple[Tensor, int]]:
        names, vectors = self._read.setdefault(folder, (set(), {}))
        for path in sorted(folder.glob('*.safetensors')):
            if path.name not in names:
                names.add(path.name)
                stored = read_shard(path)
                keys = [bytes(key) for key in stored['keys'].numpy()]
                vectors.update(zip(keys, zip(stored['vectors'], stored['cut'].tolist())))
        return vectors


def _shards(missing: dict[bytes, Sequence[str]]) -> list[dict[bytes, Sequence[str]]]:
    """Groups in files of about as many sentences."""
    shards: list[dict[bytes, Sequence[str]]] = []
    room = 0
    for key, group in missing.items():
        # A group is never parted: its vector is a mean over all of its sentences.
        if room < len(group):
            shards.append({})
            room = SHARD_SENTENCES
        shards[-1][key] = group
        room -= len(group)
    return shards


def _compute(task: ImageTextTask, shard: dict[bytes, Sequence[str]]) -> dict[str, Tensor]:
    """Vectors of the groups of one file."""
    sentences = list(dict.fromkeys(sentence for group in shard.values() for sentence in group))
    place = {sentence: number for number, sentence in enumerate(sentences)}
    vectors, cut = embed_sentences(task, sentences)  # [S, E] and [S]
    rows, counts = [], []
    for group in shard.values():
        # A template that stands twice in a list counts twice.
        chosen = torch.tensor([place[sentence] for sentence in group])
        rows.append(F.normalize(vectors[chosen].mean(dim=0), dim=0))  # [E]
        counts.append(int(cut[chosen].sum()))
    keys = torch.tensor([list(key) for key in shard], dtype=torch.uint8)  # [groups, 32]: SHA-256
    return dict(keys=keys, vectors=torch.stack(rows), cut=torch.tensor(counts))


def embed_sentences(task: ImageTextTask, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Unit vectors ``[T, E]`` in fp32, and which sentences were cut ``[T]``.

    Sentences of like length share a batch: little is computed for padding, which the published 80 tokens mostly are.
    """
    device = next(task.parameters()).device
    rows, cut = [], []
    for sentence in sentences:
        before = task.tokenizer.truncated
        rows += task.tokenizer.summary_rows([sentence])
        cut.append(task.tokenizer.truncated > before)
    # By length: batches of like rows hold little padding.
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    vectors: list[Tensor] = [torch.empty(0)] * len(rows)
    start = 0
    while start < len(order):
        # Lengths ascend: the batch is as wide as its last row.
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(rows[order[stop]]) <= BATCH_TOKENS:
            stop += 1
        ids = pad([rows[number] for number in order[start:stop]]).to(device)  # [b, L]
        with task.autocast(ids):
            embedded = F.normalize(task.encode_ids(ids).float(), dim=-1).cpu()
        for number, vector in zip(order[start:stop], embedded):
            vectors[number] = vector
        start = stop
    return torch.stack(vectors), torch.tensor(cut)
