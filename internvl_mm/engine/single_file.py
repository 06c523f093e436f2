"""The model of a training state, whose processes may have written shares of it, as one file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from internvl_mm.models.convert.files import SafetensorsFiles, open_weights, same_bytes
from internvl_mm.models.convert.target import check_target, written_whole
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError

from .trees import save_tensors


def write_single_file(source: str | Path, target: str | Path) -> None:
    """Write all tensors of weights under their own names into one file and compare; one tensor at a time is read.

    Args:
        source: A training state, run folder or work_dir (the latest state counts), or weights in a folder or file.
        target: New ``.safetensors`` file.

    Raises:
        CheckpointError: The source cannot be read, the target exists or cannot be written, or is not what was written.
    """
    target = Path(target)
    check_target(target, 'safetensors')
    weights = open_weights(source)
    with written_whole(target) as partial:
        try:
            save_tensors(partial, weights)
        except SafetensorError as error:
            raise CheckpointError(f'{target} cannot be written: {error}') from error
        written = SafetensorsFiles([partial])
        changed = [name for name in weights if not same_bytes(weights[name], written[name])]
        if changed:
            raise CheckpointError(
                f'{target}: {changed[0]} is not what was written: the disk or the memory is faulty'
            )
    console.print(f'{len(weights)} tensors, read back the same: {target}', highlight=False)
