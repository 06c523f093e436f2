"""What all image–text tasks share: embeddings of batches, zero-shot scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.models.losses import full_product
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer, require_captions
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.registry import TRANSFORMS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError

from .base import BaseTask, Part

# Published: zero-shot scores are cosines times 100, whatever temperature was learned.
ZERO_SHOT_SCALE = 100.0


class ImageTextTask(BaseTask):
    """A task that embeds images and texts in one space.

    ``predict`` fills ``pred_image`` (and ``pred_text`` for samples with captions), unit vectors ``[E]`` in fp32 for
    retrieval; samples of a data set with class prompts also get ``pred_logits`` ``[C]``, in fp32 whatever the towers
    computed in.

    Args:
        tokenizer: A :class:`CaptionTokenizer` or its config.
        class_prompts: Name of a data set to its :class:`ClassPrompts`, for zero-shot classification.
        data_preprocessor: Normalises images.
    """

    def __init__(
        self,
        *,
        tokenizer: CaptionTokenizer | dict,
        class_prompts: dict | None = None,
        data_preprocessor: Part = None,
    ):
        super().__init__(data_preprocessor=data_preprocessor)
        self.tokenizer = TRANSFORMS.build(tokenizer) if isinstance(tokenizer, dict) else tokenizer
        self.class_prompts = {
            name: TRANSFORMS.build(prompts) if isinstance(prompts, dict) else prompts
            for name, prompts in (class_prompts or {}).items()
        }
        for name, prompts in self.class_prompts.items():
            if not isinstance(prompts, ClassPrompts):
                raise ConfigError(f"class_prompts['{name}'] is {prompts!r}: it must be ClassPrompts")
        # Data set to [C, E], for as long as the weights stay: train() forgets them.
        self._classifiers: dict[str, Tensor] = {}

    @classmethod
    def check_config(cls, *, class_prompts: dict | None = None, **others: Any) -> list[str]:
        """What is wrong with the settings."""
        del others
        return [
            f"class_prompts['{name}'] has no type: write dict(type=ClassPrompts, names=..., templates=...)"
            for name, prompts in (class_prompts or {}).items()
            if isinstance(prompts, dict) and 'type' not in prompts
        ]

    @abstractmethod
    def encode_images(self, inputs: Tensor) -> Tensor:
        """Embeddings ``[B, E]`` of pixels ``[B, 3, H, W]``."""

    @abstractmethod
    def encode_ids(self, ids: Tensor) -> Tensor:
        """Embeddings ``[T, E]`` of summary ids ``[T, L]``."""

    @abstractmethod
    def image_tensors(self) -> Mapping[str, Tensor]:
        """Every tensor that decides :meth:`encode_images`; caches of image embeddings are named by their hash."""

    @abstractmethod
    def text_tensors(self) -> Mapping[str, Tensor]:
        """Every tensor that decides :meth:`encode_ids`; caches of text embeddings are named by their hash."""

    def encode_visuals(self, inputs: Tensor) -> Tensor:
        """Embeddings ``[B, E]`` of images ``[B, 3, H, W]`` or of videos of T frames, ``[B, T, 3, H, W]``."""
        if inputs.ndim == 4:
            return self.encode_images(inputs)
        frames = self.encode_images(inputs.flatten(0, 1)).float()  # [B·T, E]
        # Published for MSR-VTT: the mean of frames as they are; whoever compares makes it a unit vector.
        return frames.unflatten(0, inputs.shape[:2]).mean(dim=1)

    def encode_texts(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """Embeddings ``[T, E]`` of sentences; equal ones are computed once."""
        # [T, L] to [U, L]: a few captions describe all pictures of a small data set.
        ids, rows = torch.unique(self.tokenizer.summaries(texts), dim=0, return_inverse=True)
        return self.encode_ids(ids.to(device))[rows.to(device)]

    @property
    def image_kind(self) -> str:
        """What computes image embeddings, in a word: equal tensors mean different things to different code."""
        return type(self).__qualname__

    def set_class_prompts(self, dataset: str, prompts: ClassPrompts) -> None:
        """Score images of a data set by these prompts from now on."""
        self.class_prompts[dataset] = prompts
        self._classifiers.pop(dataset, None)

    def train(self, mode: bool = True) -> Any:
        """Set the mode; classifiers of former weights are forgotten."""
        self._classifiers.clear()
        return super().train(mode)

    def classifier(self, dataset: str, device: torch.device) -> Tensor:
        """Unit vectors ``[C, E]`` of the classes of a data set: the mean over its templates' unit vectors."""
        if dataset not in self._classifiers:
            rows = []
            for sentences in self.class_prompts[dataset].sentences():
                # Unit vectors before the mean and after, as in CLIP: every template weighs the same.
                vectors = F.normalize(self.encode_texts(sentences, device).float(), dim=-1)  # [templates, E]
                rows.append(F.normalize(vectors.mean(dim=0), dim=0))  # [E]
            self._classifiers[dataset] = torch.stack(rows)
        return self._classifiers[dataset]

    def extract(self, inputs: Tensor) -> Tensor:
        """Embeddings ``[B, E]`` of images or videos, not normalised."""
        return self.encode_visuals(inputs)

    def predict(self, inputs: Tensor, data_samples: list[ImageSample]) -> list[ImageSample]:
        """See :class:`ImageTextTask`."""
        images = F.normalize(self.encode_visuals(inputs).float(), dim=-1)  # [B, E]
        with_text = [sample for sample in data_samples if 'caption' in sample]
        # Taken from by samples with a caption alone.
        texts = iter(())
        if with_text:
            captions = [sample.caption for sample in with_text]
            texts = iter(F.normalize(self.encode_texts(captions, images.device).float(), dim=-1))
        for sample, image in zip(data_samples, images, strict=True):
            sample.pred_image = image
            if 'caption' in sample:
                sample.pred_text = next(texts)
            if sample.get('dataset') in self.class_prompts:
                # [1, E] by [C, E], as if it were a batch of one: data sets of a batch may differ.
                scores = full_product(image[None], self.classifier(sample.dataset, image.device))[0]
                sample.pred_logits = ZERO_SHOT_SCALE * scores
        return data_samples

    @staticmethod
    def captions_of(data_samples: list[ImageSample]) -> list[str]:
        """Captions of a training batch.

        Raises:
            DataError: A sample has none.
        """
        return require_captions(
            [sample.get('caption') for sample in data_samples],
            [sample.get('path') for sample in data_samples],
        )
