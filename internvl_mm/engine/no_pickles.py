"""Shuts the doors through which mmengine would read pickles, which run code when they are read."""

from __future__ import annotations

from typing import Any, NoReturn

from mmengine.fileio.handlers import PickleHandler, file_handlers
from mmengine.runner.checkpoint import CheckpointLoader

from internvl_mm.utils.errors import CheckpointError, DataError


def forbid_pickles() -> None:
    """Let mmengine, and what is built on it, read no pickle in this process; writing them stays possible.

    Closed are its checkpoint loader, which ``init_cfg=dict(type='Pretrained', …)`` of mmdet's and mmseg's parts
    reaches, and its reader of ``.pkl`` files, which annotations may be. Runners call this when they are built.
    """
    CheckpointLoader.load_checkpoint = classmethod(_refuse_checkpoint)
    # By the ending of a file's name; mmengine knows these two.
    file_handlers.update(pkl=_WriteOnly(), pickle=_WriteOnly())


def _refuse_checkpoint(cls: type, filename: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise CheckpointError(
        f"'{filename}' would be read by mmengine, which unpickles what it reads, and pickles run code: convert it to "
        'safetensors (tools/convert.py) and give it as load_from, or as pretrained of an InternViT backbone'
    )


class _WriteOnly(PickleHandler):
    """mmengine's handler of pickles without its reading half."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            DataError: Always.
        """
        raise DataError(
            # mmengine hands over bytes without their name.
            f'{getattr(file, "name", "a file of the data set")} is a pickle, which runs code when it is read: store '
            'annotations as JSON'
        )

    def load_from_path(self, filepath: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"'{filepath}' is a pickle, which runs code when it is read: store annotations as JSON"
        )
