"""Class names and templates of the published zero-shot benchmarks: data files, and the one place that reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from internvl_mm.evaluation.imagenet_subsets import ClassSubset, class_subset
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

PromptLanguage = Literal['en', 'zh', 'jp', 'ar', 'it']
LANGUAGES: tuple[str, ...] = ('en', 'zh', 'jp', 'ar', 'it')
# Published for data sets without templates of their own: ImageNet-V2, -A, -R, Sketch, ObjectNet.
FALLBACK = 'imagenet1k'
# Of the sets whose names come from the data, those whose underscores were replaced in the published runs.
_SPACED = ('food101', 'sun397')


@cache
def read_prompts(kind: Literal['classnames', 'templates'], language: str) -> dict[str, list[str]]:
    """Lists by data set, as published.

    Raises:
        ConfigError: There are none in this language.
    """
    if language not in LANGUAGES:
        # 'cn' is what the published tool calls Chinese.
        hint = " Did you mean 'zh'?" if language == 'cn' else did_you_mean(language, LANGUAGES)
        raise ConfigError(f'language={language!r}: prompts are in {", ".join(LANGUAGES)}.{hint}')
    return json.loads(_read(f'{kind}_{language}.json'))


def _read(name: str) -> str:
    return (files('internvl_mm.evaluation') / 'prompts' / name).read_text('utf-8')


@TRANSFORMS.register_module()
class DatasetPrompts:
    """Prompts of a benchmark by its published name.

    Names come from the data files of this folder or, where these have none (``food101``), from the data set itself.

    Args:
        dataset: Whose names and templates, such as ``'imagenet1k'``.
        language: Of both; only ``imagenet1k`` has others than English.
        class_subset: Names of these ImageNet-1K classes alone.
        published: Exactly what the published numbers were measured with. ``False`` corrects: equal names of two classes
            (English and Chinese ImageNet-1K), templates that count twice (Chinese, Italian), blanks around templates
            (Arabic), underscores in names that come from the data.

    Raises:
        ConfigError: An unknown language, or no templates in it.

    Source: ``clip_benchmark``'s lists.
    """

    def __init__(
        self,
        dataset: str,
        *,
        language: PromptLanguage = 'en',
        class_subset: ClassSubset | None = None,
        published: bool = False,
    ):
        templates = read_prompts('templates', language)
        self.dataset, self.language, self.published = dataset, language, published
        self.class_subset = class_subset
        if language != 'en' and dataset not in read_prompts('classnames', language):
            known = sorted(read_prompts('classnames', language))
            raise ConfigError(f"dataset='{dataset}' has no names in language='{language}', only {known} have")
        self.templates = templates.get(dataset, templates[FALLBACK])
        if not published:
            # dict keeps the first of equal ones, in order.
            self.templates = list(dict.fromkeys(template.strip() for template in self.templates))

    def prompts(self, classes: Sequence[str]) -> ClassPrompts:
        """Prompts for a data set with these classes.

        Raises:
            DataError: It has another number of classes than there are names.
        """
        names = self._names(classes)
        if len(names) != len(classes):
            raise DataError(
                f"the data set has {len(classes)} classes but '{self.dataset}' has {len(names)} names: give the data "
                'set that belongs to the prompts, complete and unchanged'
            )
        # That two classes share a name is known of these lists (998 names of 1,000 in English, 980 in Italian).
        return ClassPrompts(names, self.templates, allow_equal_names=True)

    def _names(self, classes: Sequence[str]) -> list[str]:
        listed = read_prompts('classnames', self.language).get(self.dataset)
        names = list(classes if listed is None else listed)
        if not self.published:
            corrections = json.loads(_read('corrections.json')).get(self.language, {})
            for index, name in corrections.get(self.dataset, {}).items():
                names[int(index)] = name
        if not self.published or self.dataset in _SPACED:
            names = [name.replace('_', ' ') for name in names]
        if self.dataset in _SPACED:
            # Of SUN397 a slash separates words; elsewhere it belongs to the name ('F/A-18', 'Mixing / Salad Bowl').
            names = [name.replace('/', ' ') for name in names]
        if self.class_subset is not None:
            return [names[index] for index in class_subset(self.class_subset)]
        # The published list of Caltech-101 begins with the background, which the corrected data set leaves out.
        return names[1:] if self.dataset == 'caltech101' and len(classes) == len(names) - 1 else names
