"""Indexes of sharded weights, and paths that hold none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from internvl_mm.models.convert import open_weights
from internvl_mm.utils.errors import CheckpointError


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / 'inside').mkdir()
    save_file({'x': torch.ones(1)}, tmp_path / 'secret.safetensors')
    index = tmp_path / 'inside' / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'x': '../secret.safetensors'}}))
    with pytest.raises(CheckpointError, match="points at '../secret.safetensors': shards must lie beside"):
        open_weights(tmp_path / 'inside')


@pytest.mark.parametrize('file', [None, 3, ['a.safetensors']])
def test_an_index_that_names_no_file_is_refused(tmp_path: Path, file: object) -> None:
    save_file({'x': torch.ones(1)}, tmp_path / 'a.safetensors')
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'x': 'a.safetensors', 'y': file}}))
    with pytest.raises(CheckpointError, match='shards must lie beside the index'):
        open_weights(tmp_path)


def test_an_index_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    save_file({'x': torch.ones(1)}, tmp_path / 'a.safetensors')
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'x': 'a.safetensors', 'y': 'a.safetensors'}}))
    with pytest.raises(CheckpointError, match="names 1 tensors that are in no file, such as 'y'"):
        open_weights(tmp_path)
    index.write_text('{}')
    with pytest.raises(CheckpointError, match="has no 'weight_map'"):
        open_weights(tmp_path)
    index.write_text('[]')
    with pytest.raises(CheckpointError, match='holds list where an object of settings belongs'):
        open_weights(tmp_path)
    index.write_text('{')
    with pytest.raises(CheckpointError, match='cannot be read as JSON'):
        open_weights(tmp_path)


def test_two_files_with_the_same_tensor_are_refused(tmp_path: Path) -> None:
    for name in ('a', 'b'):
        save_file({'x': torch.ones(1)}, tmp_path / f'{name}.safetensors')
    weight_map = {'x': 'a.safetensors', 'y': 'b.safetensors'}
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': weight_map}))
    with pytest.raises(CheckpointError, match="'x' is also in another file"):
        open_weights(tmp_path)


def test_paths_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='does not exist: give a folder or a file of weights'):
        open_weights(tmp_path / 'nothing')
    with pytest.raises(CheckpointError, match='holds no weights: looked for model.safetensors.index.json'):
        open_weights(tmp_path)
    (tmp_path / 'weights.h5').touch()
    with pytest.raises(CheckpointError, match=r"weights end in .safetensors, .pth, .pt, .bin, not '.h5'"):
        open_weights(tmp_path / 'weights.h5')
    (tmp_path / 'model.safetensors').write_bytes(b'truncated')
    with pytest.raises(CheckpointError, match='damaged or not a safetensors file'):
        open_weights(tmp_path)
