"""The model of a training state, whose processes may have written shares of it, as one file."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError

from internvl_mm.models.convert.files import SafetensorsFiles, open_weights, same_bytes
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
    target, weights = Path(target), open_weights(source)
    if target.suffix != '.safetensors' or target.exists():
        raise CheckpointError(f'{target}: give the name of a new file that ends in .safetensors')
    # Nothing appears under the name asked for before it is complete.
    scratch = target.with_name(f'.{target.name}.unfinished')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(scratch, weights)
        written = SafetensorsFiles([scratch])
        changed = [name for name in weights if not same_bytes(weights[name], written[name])]
        if changed:
            raise CheckpointError(
                f'{target}: {changed[0]} is not what was written: the disk or the memory is faulty'
            )
        os.replace(scratch, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'{target} cannot be written: {error}') from error
    finally:
        scratch.unlink(missing_ok=True)
    console.print(f'{len(weights)} tensors, read back the same: {target}', highlight=False)
