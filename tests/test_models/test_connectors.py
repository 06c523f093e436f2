"""Connectors: the order of tokens and channels, their numbers, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from internvl_mm.models.connectors import LlavaMlp, PixelShuffleMlp, QueryGlue, pixel_shuffle
from internvl_mm.utils.errors import ConfigError, DataError


def grid(side: int) -> torch.Tensor:
    """Patches numbered row by row, ``[1, side, side, 1]``."""
    return torch.arange(side * side).reshape(1, side, side, 1)


@pytest.mark.parametrize(
    ('version', 'cells'),
    [
        ('v2', [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]),
        ('v1', [[0, 1, 4, 5], [8, 9, 12, 13], [2, 3, 6, 7], [10, 11, 14, 15]]),
    ],
)
def test_v1_gives_cells_by_column_and_v2_by_row_with_the_same_channels(version: str, cells: list) -> None:
    assert pixel_shuffle(grid(4), 2, version).tolist() == [cells]


@pytest.mark.parametrize('side', [1, 2, 3])
def test_shuffle_is_the_published_sequence_of_views(side: int) -> None:
    patches = torch.randn(2, 6, 6, 5)
    n, w, h, c = patches.shape
    expected = patches.view(n, w, h // side, c * side).permute(0, 2, 1, 3).contiguous()
    expected = expected.view(n, h // side, w // side, c * side * side)
    assert torch.equal(pixel_shuffle(patches, side, 'v1'), expected.flatten(1, 2))
    assert torch.equal(pixel_shuffle(patches, side, 'v2'), expected.permute(0, 2, 1, 3).flatten(1, 2))


def test_projector_has_the_published_names_sizes_and_norm() -> None:
    mlp = PixelShuffleMlp(8, 6, grid=4)
    shapes = {name: tuple(tensor.shape) for name, tensor in mlp.state_dict().items()}
    assert shapes == {
        '0.weight': (32,), '0.bias': (32,), '1.weight': (6, 32), '1.bias': (6,), '3.weight': (6, 6), '3.bias': (6,),
    }  # fmt: skip
    assert mlp[0].eps == 1e-5
    assert mlp.tokens_per_tile == 4
    tokens = torch.randn(3, 17, 8)
    changed = torch.cat([torch.zeros(3, 1, 8), tokens[:, 1:]], dim=1)
    assert mlp(tokens).shape == (3, 4, 6)
    assert torch.equal(mlp(tokens), mlp(changed)), 'the class token is left out'


def test_tiles_that_are_no_grid_of_cells_are_told() -> None:
    with pytest.raises(DataError, match='9 patches are no square grid of 2x2 cells: resize the tiles'):
        PixelShuffleMlp(8, 6, grid=4)(torch.randn(1, 10, 8))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(version='v3'), "ps_version='v3' is unknown: use one of 'v1', 'v2'"),
        (dict(downsample_ratio=0.3), 'downsample_ratio=0.3: it must be 1/k for a whole number k'),
        (dict(downsample_ratio=0), 'downsample_ratio=0: it must be 1/k'),
        (dict(grid=5), '5x5 patches cannot be divided into cells of 2x2'),
        (dict(in_dim=0), 'in_dim=0 is not possible'),
    ],
)
def test_settings_that_cannot_be_are_told(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PixelShuffleMlp(**{**dict(in_dim=8, out_dim=6, grid=4), **settings})


@pytest.mark.parametrize(('depth', 'names'), [(1, {'0'}), (2, {'0', '2'}), (3, {'0', '2', '4'})])
def test_llava_projector_keeps_every_patch_and_its_names(depth: int, names: set[str]) -> None:
    mlp = LlavaMlp(8, 6, grid=3, depth=depth)
    assert {name.split('.')[0] for name in mlp.state_dict()} == names
    assert mlp(torch.randn(2, 10, 8)).shape == (2, 9, 6)
    assert mlp.tokens_per_tile == 9


class Former(nn.Module):
    """Stands for a QLLaMA: four queries, the mean token each."""

    num_queries, width = 4, 8

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mean(1, keepdim=True).expand(-1, 4, -1)


def test_query_glue_puts_queries_before_patches() -> None:
    glue, tokens = QueryGlue(8, 6, grid=3, query_former=Former()), torch.randn(2, 10, 8)
    visual = glue(tokens)
    assert glue.tokens_per_tile == 13
    assert visual.shape == (2, 13, 6)
    torch.testing.assert_close(visual[:, 4:], glue.patch_mlp(tokens[:, 1:]))
    torch.testing.assert_close(visual[:, 0], glue.query_mlp(tokens.mean(1)))
