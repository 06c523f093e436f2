"""Class names to the sentences a text tower compares with images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import ConfigError


@TRANSFORMS.register_module()
class ClassPrompts:
    """Names of classes and templates of sentences.

    Args:
        names: Name of every class, in the order of the labels.
        templates: Sentences with ``{c}`` where the name goes. Equal ones weigh more, as published.
        allow_equal_names: Two classes may have one name (ImageNet-1K has 998 names of 1000 classes); they then share
            all their scores.

    Raises:
        ConfigError: Nothing to compare, a template without place for the name, or equal names.
    """

    def __init__(
        self,
        names: Sequence[str],
        templates: Sequence[str] = ('a photo of a {c}.',),
        *,
        allow_equal_names: bool = False,
    ):
        if not names or not templates:
            raise ConfigError('ClassPrompts needs at least one name and one template')
        # Its sentence would be the same for every class, and only add noise to the mean of the others.
        if bare := [template for template in templates if '{c}' not in template]:
            raise ConfigError(f"template {bare[0]!r} has no '{{c}}' where the name of the class goes")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice and not allow_equal_names:
            raise ConfigError(
                f'{len(twice)} names stand for more than one class, such as {twice[0]!r}: their images cannot be told '
                'apart; correct the list, or set allow_equal_names=True where that is known (ImageNet-1K)'
            )
        self.names, self.templates = tuple(names), tuple(templates)

    def sentences(self) -> list[list[str]]:
        """Per class, one sentence per template."""
        # Not str.format, which would stumble over other braces in a template.
        return [[template.replace('{c}', name) for template in self.templates] for name in self.names]
