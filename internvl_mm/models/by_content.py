"""Model types that two families of models were published under."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig


class ByContent:
    """Stands for a model type in ``AutoConfig``, which looks up one class per type, and chooses by content.

    Attributes:
        model_type: The type.
        marker: A setting that folders of ``ours`` have and those of ``theirs`` have not.
        ours: Configuration of the family of this package.
        theirs: Configuration of transformers' own family.
    """

    model_type: ClassVar[str]
    marker: ClassVar[str]
    ours: ClassVar[type[PreTrainedConfig]]
    theirs: ClassVar[type[PreTrainedConfig]]

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        """Make the configuration the settings belong to."""
        # No instance of this class, so that Python calls no constructor a second time.
        return cls._kind(settings)(*args, **settings)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See transformers' ``PreTrainedConfig.from_dict``."""
        return cls._kind(config_dict).from_dict(config_dict, **kwargs)

    @classmethod
    def from_pretrained(cls, path: str, **kwargs: Any) -> PreTrainedConfig:
        """See transformers' ``PreTrainedConfig.from_pretrained``."""
        # Reads or downloads the file once; kwargs come back without what was used for that.
        settings, kwargs = PreTrainedConfig.get_config_dict(path, **kwargs)
        return cls.from_dict(settings, **kwargs)

    @classmethod
    def _kind(cls, settings: dict[str, Any]) -> type[PreTrainedConfig]:
        return cls.ours if cls.marker in settings else cls.theirs
