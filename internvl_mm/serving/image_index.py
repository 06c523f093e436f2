"""Pictures found by text: an index of unit vectors in one file, searched exactly.

Shape letters: n pictures, q queries, k hits, E width of the joint space.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from internvl_mm.data.datasets import GuardedDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.pipeline import Pipeline
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.engine.features import FeatureCache
from internvl_mm.engine.text_features import embed_sentences
from internvl_mm.models.tasks import ImageTextTask
from internvl_mm.structures import ImageSample
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError, DataError
from internvl_mm.utils.hashing import hash_buffers, hash_modules, hash_settings, hash_tensors

FORMAT = '1'  # of the file


class PictureFiles(GuardedDataset):
    """Pictures without labels; one that cannot be read is left out and listed.

    Args:
        files: Their paths.
        transform: See :class:`~internvl_mm.data.pipeline.Pipeline`.
        decoder: Opens them.
    """

    def __init__(self, files: Sequence[Path], transform: Sequence[Any], decoder: ImageDecoder):
        super().__init__(name='pictures', on_error='skip')
        self.files, self.transform, self.decoder = list(files), Pipeline(transform), decoder

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> str:
        """See :class:`GuardedDataset`."""
        return str(self.files[index])

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name, classes=None)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`; a file that was written again counts as another picture."""
        # Not the bytes: hashing them would read a whole folder before anything is embedded.
        states = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        return hash_settings([states, repr(self.decoder), self.transform.settings])

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        inputs = self.transform(self.decoder(self.files[index], self.path(index)))
        where = dict(dataset=self.name, index=int(index), path=self.path(index))
        return dict(inputs=inputs, data_samples=ImageSample(metainfo=where))


@dataclass(frozen=True)
class Hit:
    """One picture found: its path and its cosine with the query."""

    path: str
    score: float


@dataclass(frozen=True)
class ImageIndex:
    """Unit vectors of pictures.

    Attributes:
        vectors: ``[n, E]`` in fp32.
        paths: Absolute path of each picture.
        weights: Hash of the weights that embedded them, and of those that embed the queries that go with them.
    """

    vectors: Tensor
    paths: tuple[str, ...]
    weights: str

    def save(self, path: str | Path) -> None:
        """Write the index, whole or not at all."""
        scratch = Path(path).with_name(f'{Path(path).name}.{os.getpid()}.tmp')
        # As text: metadata of safetensors are nothing else.
        facts = dict(format=FORMAT, weights=self.weights, paths=json.dumps(self.paths))
        try:
            Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
            save_file(dict(vectors=self.vectors.contiguous()), scratch, metadata=facts)
            os.replace(scratch, path)
        except (SafetensorError, OSError) as error:
            if scratch.exists():
                scratch.unlink()
            raise DataError(
                f'index {path} was not written ({error}): free space, or name another file'
            ) from error

    @classmethod
    def load(cls, path: str | Path, *, weights: str) -> ImageIndex:
        """Read an index that belongs to a model.

        Args:
            path: The file.
            weights: Hash of the model's weights, see :func:`weights_hash`.

        Raises:
            DataError: The file is missing, damaged or no index.
            CheckpointError: Other weights made it; names both hashes.
        """
        try:
            with safe_open(path, framework='pt') as file:
                facts, vectors = file.metadata() or {}, file.get_tensor('vectors')
            paths = tuple(json.loads(facts['paths']))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(
                f'{path} is no index of pictures ({error}): build it again from the folder'
            ) from error
        # Vectors of other weights have the same shape: nothing but the hash shows that they do not belong.
        if facts.get('weights') != weights:
            raise CheckpointError(
                f'index {path} was made with weights {facts.get("weights")}, but the model has weights {weights}: '
                'vectors of different weights cannot be compared; load those weights, or build the index again'
            )
        return cls(vectors, paths, weights)

    def search(self, queries: Tensor, count: int) -> list[list[Hit]]:
        """The most similar pictures of each query, best first; equal scores keep the order of the pictures.

        faiss searches when it is installed; the results are the same.

        Args:
            queries: Unit vectors ``[q, E]``.
            count: Hits per query; fewer when there are fewer pictures.
        """
        find = _find_with_faiss if importlib.util.find_spec('faiss') else _find
        scores, places = find(self.vectors, queries.float(), min(count, len(self.paths)))
        return [
            [Hit(self.paths[place], score) for place, score in zip(row, values)]
            for row, values in zip(places.tolist(), scores.tolist())
        ]


def _find(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    # [q, n]; a stable sort, since topk leaves the order of equal scores open.
    scores, places = (queries @ vectors.t()).sort(dim=1, descending=True, stable=True)
    return scores[:, :count], places[:, :count]


def _find_with_faiss(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    import faiss

    exact = faiss.IndexFlatIP(vectors.shape[1])  # inner products, of unit vectors the cosine
    exact.add(vectors.numpy())
    # A few more than asked for: which of equal scores come last is faiss's choice, and which are shown is ours.
    scores, places = map(torch.from_numpy, exact.search(queries.numpy(), min(2 * count + 8, len(vectors))))
    # By place, then stably by score: equal scores keep the order of the pictures, as in _find.
    by_place = places.argsort(dim=1, stable=True)
    scores, places = scores.gather(1, by_place), places.gather(1, by_place)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return scores.gather(1, order), places.gather(1, order)


def weights_hash(task: ImageTextTask) -> str:
    """Hash of everything that decides the vectors of pictures and queries."""
    parts = [task.image_kind, hash_buffers(task.data_preprocessor)]
    for tensors in (task.image_tensors(), task.text_tensors()):
        # With heads, windows and the like, which the tensors do not tell.
        parts += [hash_tensors(tensors), hash_modules(task, tensors)]
    # 64 bits: an error message names two of them.
    return hash_settings([*parts, task.tokenizer.fingerprint()])[:16]


def build_index(task: ImageTextTask, pictures: PictureFiles, cache: FeatureCache) -> ImageIndex:
    """Embed pictures.

    Args:
        task: Embeds them.
        pictures: The files, and how they are read.
        cache: Keeps what was embedded, so that a build that was stopped goes on.

    Raises:
        DataError: None could be read.
    """
    # Positions of the pictures that could be read, [n].
    vectors, positions = cache.extract(task, pictures, views=1).views[0]
    if len(positions) < len(pictures):
        console.print(
            f'{len(pictures) - len(positions)} of {len(pictures)} pictures could not be read and are left out'
        )
    paths = tuple(str(pictures.files[position].absolute()) for position in positions.tolist())
    return ImageIndex(F.normalize(vectors.float(), dim=-1), paths, weights_hash(task))


@torch.inference_mode()
def embed_queries(task: ImageTextTask, queries: Sequence[str]) -> Tensor:
    """Unit vectors ``[q, E]`` of texts.

    Raises:
        DataError: A query is empty.
    """
    if any(not query.strip() for query in queries):
        raise DataError('a query is empty: write what should be on the pictures')
    vectors, cut = embed_sentences(task, queries)
    if cut.any():
        console.print(
            f'{int(cut.sum())} queries have more than {task.tokenizer.max_length} tokens and were cut'
        )
    return vectors
