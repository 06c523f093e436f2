"""Training InternVL-14B: the generative stage (2) and fine-tuning for retrieval.

Shape letters: B images, L text tokens, E width of the joint space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from internvl_mm.models.connectors.qllama import unknown_settings
from internvl_mm.models.hf_internvl_14b import IMAGE_MODES, ImageMode
from internvl_mm.models.losses import full_product
from internvl_mm.preprocess.caption_tokens import IGNORED, CaptionTokenizer, same_length
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError, DataError

from .base import Part, build_part
from .generative_alignment import AlignmentTexts, generative_losses, retrieval_losses
from .image_text import ImageTextTask

Mining = Literal['random', 'hard']
# Without the least length, CIDEr changes noticeably.
PUBLISHED_GENERATION = dict(num_beams=5, do_sample=False, min_new_tokens=8, max_new_tokens=30)

# What the published layer-wise rates treat as embeddings.
_AT_INPUT = ('vision_model.embeddings.', 'qllama.model.embed_tokens.', 'query_tokens', 'logit_scale')


class QLlamaTask(ImageTextTask):
    """What both stages with a QLLaMA share.

    Args:
        model: An :class:`~internvl_mm.models.internvl_14b.InternVL14B`.
        tokenizer: See :class:`ImageTextTask`.
        negatives: Which wrong text an image is matched with: ``'random'``, a caption the data set drew (its option
            ``with_negative``), as published; ``'hard'``, one of the batch, drawn the likelier the more similar
            InternVL-C finds it, as BLIP does.
        image_mode: Which image embedding evaluation uses.
        class_prompts: See :class:`ImageTextTask`.
        data_preprocessor: See :class:`ImageTextTask`.
    """

    def __init__(
        self,
        *,
        model: Part,
        tokenizer: CaptionTokenizer | dict,
        negatives: Mining = 'random',
        image_mode: ImageMode = 'InternVL-G',
        class_prompts: dict | None = None,
        data_preprocessor: Part = None,
    ):
        super().__init__(
            tokenizer=tokenizer, class_prompts=class_prompts, data_preprocessor=data_preprocessor
        )
        if image_mode not in IMAGE_MODES:
            raise ConfigError(f'image_mode={image_mode!r}: use {" or ".join(map(repr, IMAGE_MODES))}')
        self.model = build_part(model)
        self.negatives, self.image_mode = negatives, image_mode
        # Checked here: an id beyond the table fails in a GPU kernel, far from its cause.
        vocabulary = self.model.config.qllama_config.vocab_size
        if self.tokenizer.vocab_size > vocabulary:
            raise ConfigError(
                f'the tokenizer has {self.tokenizer.vocab_size} ids but the model vocab_size={vocabulary}: take the '
                'vocabulary that belongs to the weights, or a larger model.model.qllama.vocab_size'
            )

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.model.config.hidden_size

    @property
    def backbone(self) -> torch.nn.Module:
        """The ViT."""
        return self.model.vision_model

    def layer_of(self, name: str) -> tuple[str, int, int]:
        """Part of a parameter, its depth in the part, and the largest depth there; optimisers ask.

        Parts are ``vision``, the ViT with its pool, and ``qllama``, all else. Depths are the published ones: 0 for
        embeddings, queries and temperature, i+1 for layer i, then norm, heads, pools and projection.
        """
        inner = name.removeprefix('model.')
        of_vision = inner.startswith(('vision_model.', 'clip_projector.'))
        config = self.model.config.vision_config if of_vision else self.model.config.qllama_config
        part, last = 'vision' if of_vision else 'qllama', config.num_hidden_layers + 1
        # Both towers number their blocks so.
        if layer := re.search(r'\.layers\.(\d+)\.', inner):
            return part, int(layer[1]) + 1, last
        return part, 0 if inner.startswith(_AT_INPUT) else last, last

    def encode_images(self, inputs: Tensor) -> Tensor:
        """See :class:`ImageTextTask`."""
        return self.model.encode_image(inputs, self.image_mode)  # [B, E]

    def encode_ids(self, ids: Tensor) -> Tensor:
        """See :class:`ImageTextTask`."""
        return self.model.encode_text(ids)  # [T, E]

    @property
    def image_kind(self) -> str:
        """See :class:`ImageTextTask`: training tasks with one image mode embed alike."""
        return self.image_mode

    def image_tensors(self) -> Mapping[str, Tensor]:
        """See :class:`ImageTextTask`; the path of InternVL-C is the ViT and its pool, that of InternVL-G goes on."""
        tensors = self.model.state_dict()
        if self.image_mode == 'InternVL-C':
            return _below(tensors, 'vision_model.', 'clip_projector.')
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(_NOT_OF_IMAGES)}

    def text_tensors(self) -> Mapping[str, Tensor]:
        """See :class:`ImageTextTask`; without cross-attention, which text alone never meets: both modes share it."""
        kept = _below(self.model.state_dict(), 'qllama.model.', 'text_projection')
        return {name: tensor for name, tensor in kept.items() if '.cross_attn.' not in name}

    def set_precision(self, dtype: torch.dtype) -> None:
        """See :class:`BaseTask`; published weights are stored in half precision, which fp32 cannot compute with."""
        super().set_precision(dtype)
        if dtype == torch.float32:
            self.float()

    def _negatives(self, inputs: Tensor, samples: list[ImageSample]) -> list[str]:
        if self.negatives == 'random':
            missing = [sample for sample in samples if 'negative' not in sample]
            if missing:
                raise DataError(
                    f"samples of '{missing[0].get('dataset')}' carry no caption of another image: set "
                    "with_negative=True of the data set, or negatives='hard' of the task"
                )
            return [sample.negative for sample in samples]
        return [samples[index].caption for index in self._hard(inputs, samples)]

    @torch.no_grad()
    def _hard(self, inputs: Tensor, samples: list[ImageSample]) -> list[int]:
        """For each image, the pair of the batch whose text it is matched with."""
        images = F.normalize(self.model.encode_image(inputs, 'InternVL-C').float(), dim=-1)  # [B, E]
        captions = [sample.caption for sample in samples]
        texts = F.normalize(self.encode_texts(captions, inputs.device).float(), dim=-1)  # [B, E]
        ids = image_ids(samples, inputs.device)
        scores = full_product(self.model.logit_scale.exp() * images, texts)
        # [B, B]: neither the own caption nor another of the same picture is wrong.
        scores = scores.masked_fill(ids[:, None] == ids[None, :], float('-inf'))
        if scores.isinf().all(dim=1).any():
            raise DataError("negatives='hard' needs two images in every batch: enlarge batch_size")
        # Drawn rather than the largest, because the most similar caption is often right, too.
        return scores.softmax(dim=1).multinomial(1).squeeze(1).tolist()

    def _texts(self, inputs: Tensor, samples: list[ImageSample], *, captions: bool) -> AlignmentTexts:
        own = self.captions_of(samples)
        read = self.tokenizer
        # In the order of AlignmentTexts' fields.
        rows = [read.plain(own), read.plain(self._negatives(inputs, samples)), read.summaries(own)]
        if not captions:
            return AlignmentTexts(*(part.to(inputs.device) for part in same_length(*rows)))
        prompted, labels = read.captions(own, [sample.get('language') for sample in samples])
        rows = same_length(*rows, prompted)
        # Labels still have the length of the captions before all texts were made equally long.
        labels = F.pad(labels, (0, rows[0].shape[1] - labels.shape[1]), value=IGNORED)
        return AlignmentTexts(*(part.to(inputs.device) for part in (*rows, labels)))


# Parts of the model no image embedding depends on.
_NOT_OF_IMAGES = (
    'qllama.lm_head.',
    'qllama.model.embed_tokens.',
    'itm_head.',
    'text_projection',
    'logit_scale',
)


def _below(tensors: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def image_ids(samples: list[ImageSample], device: torch.device) -> Tensor:
    """Numbers of the images of a batch ``[B]``.

    Raises:
        DataError: The data set gives none.
    """
    if any('image_id' not in sample for sample in samples):
        raise DataError(
            f"samples of '{samples[0].get('dataset')}' have no image_id: use a data set of image–text pairs"
        )
    return torch.tensor([sample.image_id for sample in samples], device=device)


@MODELS.register_module()
class GenerativePretraining(QLlamaTask):
    """Stage 2: matching, contrast and captioning through QLLaMA, equal weights.

    As published, what trains is ``trainable=('queries', 'cross_attention', 'query_pool', 'matching_head',
    'temperature')`` of the model. Samples with ``references`` are described instead of embedded: ``predict`` fills
    their ``pred_caption``, in the language they name.

    Args:
        generation: Options of transformers' ``generate`` for these captions; published are 5 beams and 8 to 30 new
            tokens.
        options: See :class:`QLlamaTask`.

    Source: InternVL ``internvl_stage2``; Chen et al. 2023, section 3.3.
    """

    def __init__(self, *, generation: dict[str, Any] | None = None, **options: Any):
        super().__init__(**options)
        self.generation = dict(PUBLISHED_GENERATION if generation is None else generation)

    @classmethod
    def check_config(cls, *, generation: dict[str, Any] | None = None, **others: Any) -> list[str]:
        """See :class:`ImageTextTask`; transformers itself takes any name of an option without a word."""
        unknown = unknown_settings('generation', generation or {}, vars(GenerationConfig()))
        return [*super().check_config(**others), *unknown]

    def loss(self, inputs: Tensor, data_samples: list[ImageSample]) -> dict[str, Tensor]:
        """The three losses, and how many texts of the batch were cut; a batch has at least 2 images."""
        if len(inputs) < 2:
            raise DataError(
                'a batch of 1 image has no wrong and right half: set train_dataloader.batch_size to 2 or more'
            )
        cut_before = self.tokenizer.truncated
        texts = self._texts(inputs, data_samples, captions=True)
        losses = generative_losses(self.model, inputs, texts, empty_summary=self.tokenizer.empty_summary)
        # Each caption is up to four texts: matching, contrast, generation, and another picture's wrong one.
        return dict(losses, texts_cut=torch.tensor(float(self.tokenizer.truncated - cut_before)))

    def predict(self, inputs: Tensor, data_samples: list[ImageSample]) -> list[ImageSample]:
        """Captions of samples with references; embeddings of all others."""
        described = [number for number, sample in enumerate(data_samples) if 'references' in sample]
        if not described:
            return super().predict(inputs, data_samples)
        if len(described) < len(data_samples):
            raise DataError(
                f'{len(described)} of {len(data_samples)} samples of a batch have references: use all or none'
            )
        # A batch has one prompt: prompts of several lengths would need padding before them.
        for language in sorted({sample.get('language') or '' for sample in data_samples}):
            rows = [n for n, sample in enumerate(data_samples) if (sample.get('language') or '') == language]
            captions = self.caption(inputs[rows], language or None, **self.generation)
            for row, caption in zip(rows, captions, strict=True):
                data_samples[row].set_metainfo(dict(pred_caption=caption))
        return data_samples

    def caption(self, inputs: Tensor, language: str | None = None, **options: Any) -> list[str]:
        """Captions of pixels ``[B, 3, H, W]``; ``options`` of transformers' ``generate``."""
        prompts = self.tokenizer.prompts(len(inputs), language).to(inputs.device)
        return self.tokenizer.decode(self.model.generate(inputs, prompts, **options))


@MODELS.register_module()
class RetrievalFinetuning(QLlamaTask):
    """Fine-tuning for retrieval: matching, and contrast of both image paths with all captions of an image as right.

    Arguments: see :class:`QLlamaTask`.

    Source: InternVL ``internvl_stage2_retrieval``.
    """

    def loss(self, inputs: Tensor, data_samples: list[ImageSample]) -> dict[str, Tensor]:
        """Losses of both image paths."""
        texts = self._texts(inputs, data_samples, captions=False)
        return retrieval_losses(self.model, inputs, texts, image_ids(data_samples, inputs.device))
