"""Conversations about DigitScenes, drawn on the fly: new scenes in every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from PIL import Image

from internvl_mm.data.chat_records import IMAGE
from internvl_mm.data.datasets.guarded import GuardedDataset
from internvl_mm.data.digit_scenes.dialogue import SHORT_KINDS, ask
from internvl_mm.data.digit_scenes.digits import check_split
from internvl_mm.data.digit_scenes.language import check_languages
from internvl_mm.data.digit_scenes.scene import sample_rng, scene_at
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ChatRecord, QuestionSample
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean
from internvl_mm.utils.hashing import hash_settings


class _DigitTalk(GuardedDataset):
    """What training and evaluation share.

    Args:
        split: ``'train'`` or ``'test'``: the two share no scan.
        encoder: A :class:`ChatEncoder` or its config.
        length: Scenes per epoch.
        kinds: What is asked, of the kinds of single pictures.
        num_digits: Fewest and most digits of a scene.
        canvas: Side of scenes in pixels.
        language: Of questions and answers.
        seed: Of the scenes.
        name: See :class:`GuardedDataset`.

    Raises:
        ConfigError: Unknown kinds, or sizes out of range.
        DataError: A scene allows no question of any kind (when it is loaded; see :class:`GuardedDataset`).
    """

    def __init__(
        self,
        split: Literal['train', 'test'],
        encoder: Callable[[ChatRecord], Any] | dict,
        *,
        length: int,
        kinds: tuple[str, ...] = ('which', 'count', 'where'),
        num_digits: tuple[int, int] = (1, 3),
        canvas: int = 112,
        language: Literal['en', 'zh'] = 'en',
        seed: int = 0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        check_split(split)
        check_counts(length=length)
        check_languages((language,))
        if not kinds:
            raise ConfigError(f'kinds=(): name at least one of {", ".join(SHORT_KINDS)}')
        for kind in kinds:
            if kind not in SHORT_KINDS:
                raise ConfigError(
                    f'kinds names {kind!r}; there are {", ".join(SHORT_KINDS)}.{did_you_mean(kind, SHORT_KINDS)}'
                )
        self.split, self.length, self.kinds, self.seed = split, length, tuple(kinds), seed
        self.language = language
        self._scene: dict[str, Any] = dict(canvas=canvas, num_digits=tuple(num_digits))
        self.encoder: Any = TRANSFORMS.build(encoder) if isinstance(encoder, dict) else encoder

    def path(self, index: int) -> None:
        """These conversations have no file."""

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name, encoder=getattr(self.encoder, 'facts', {}))

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        settings = [self.split, self.length, self.kinds, self.seed, self.language, self._scene]
        return hash_settings(dict(dataset=type(self).__qualname__, settings=repr(settings)))

    def _ask(self, number: int, kinds: tuple[str, ...]) -> tuple[Image.Image, list[tuple[str, str]]]:
        """Picture of scene ``number`` and a question of each kind that it allows, in a random order."""
        # Two generators: a change of the questions leaves the pictures as they are.
        scene = scene_at(self.split, seed=self.seed, index=number, **self._scene)
        rng = sample_rng(self.seed, self.split, 'dialogue', number)
        order = [kinds[i] for i in rng.permutation(len(kinds))]
        questions = [ask(kind, scene, rng, self.language) for kind in order]
        turns = [(q.text, q.answer) for q in questions if q is not None]
        if not turns:
            raise DataError(
                f'{self.name}[{number}]: a scene of {len(scene.digits)} allows none of {", ".join(kinds)}'
            )
        return Image.fromarray(scene.image), turns

    def _record(self, picture: Image.Image, turns: list[tuple[str, str]]) -> ChatRecord:
        # The picture belongs to the first question alone; later ones refer back to it.
        (first, answer), *others = turns
        images: Any = (picture,)  # drawn, so that there is no file to name
        return ChatRecord(turns=((f'{IMAGE}\n{first}', answer), *others), images=images)


@DATASETS.register_module()
class DigitChatDataset(_DigitTalk):
    """Conversations to learn from: a scene and questions about it, with short answers.

    Args:
        turns: Most questions about a scene, of kinds drawn at random; one of every kind when left out.
        options: See the base class.

    Raises:
        ConfigError: ``turns`` is not a number of questions.
    """

    def __init__(self, *args: Any, turns: int | None = None, **options: Any):
        super().__init__(*args, **options)
        self.turns = len(self.kinds) if turns is None else turns
        check_counts(turns=self.turns)

    def __len__(self) -> int:
        return self.length

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        return hash_settings(dict(talk=super().fingerprint(), turns=self.turns))

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        # Scenes are numbered on through the epochs, so that no scene comes twice.
        picture, turns = self._ask(index.epoch * self.length + index, self.kinds)
        turns = turns[: self.turns]  # their order is random
        sample = self.encoder(self._record(picture, turns))
        return dict(inputs=replace(sample, dataset=self.name, index=int(index)))


@DATASETS.register_module()
class DigitQuestionDataset(_DigitTalk):
    """Questions to answer, one at a time: every kind about every scene.

    Args:
        options: See the base class.
    """

    def __len__(self) -> int:
        return self.length * len(self.kinds)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        # The same in every epoch: scores of different epochs are about the same questions.
        # All questions about a scene are neighbours.
        scene, kind = divmod(int(index), len(self.kinds))
        picture, [(question, answer)] = self._ask(scene, (self.kinds[kind],))
        prompt = self.encoder.prompt(self._record(picture, [(question, answer)]))
        facts = dict(dataset=self.name, index=int(index), path=None)
        asked = dict(facts, kind=self.kinds[kind], question=question, answers=[answer])
        return dict(inputs=replace(prompt, **facts), data_samples=QuestionSample(metainfo=asked))
