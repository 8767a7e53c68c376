# SPDX-License-Identifier: Apache-2.0
"""What is drawn of a saved pair is what its tensors hold: nothing averaged away, nothing counted twice."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save_file

from scatter import BINS, ScatterCounter
from tensor_map import MAX_COLUMNS, MAX_ROWS, TILE, MapBuilder, TensorMap, cell_size
from tensor_reductions import reductions_of
from tttdebug.tracking.saved_pair import SavedPair

FLOATS = st.floats(-1e6, 1e6, width=32)
SIDES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def saved(path: Path, reference: torch.Tensor, port: torch.Tensor) -> SavedPair:
    save_file({"reference": reference, "port": port}, path)
    return SavedPair.open(path, None)


def mapped(values: np.ndarray) -> TensorMap:
    builder = MapBuilder(*values.shape)
    for row, line in enumerate(values):
        builder.add(row // builder.rows_a_cell, line[None])
    return builder.result()


@given(arrays(np.float32, SIDES, elements=FLOATS))
def test_a_map_keeps_the_strongest_value_and_loses_no_cell(values: np.ndarray) -> None:
    shown = mapped(values)
    rows, columns = shown.values.shape
    r, c = shown.rows_a_cell, shown.channels_a_cell
    assert rows <= MAX_ROWS
    assert columns <= MAX_COLUMNS
    assert (rows, columns) == (math.ceil(values.shape[0] / r), math.ceil(values.shape[1] / c))
    for i, j in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        cell = values[i * r : (i + 1) * r, j * c : (j + 1) * c]
        assert abs(shown.values[i, j]) == np.abs(cell).max()
        assert shown.values[i, j] in cell


def test_a_cell_with_a_value_that_is_not_finite_is_nan() -> None:
    values = np.ones((200, 200), np.float32)
    values[150, 7], values[3, 190], values[4, 60] = math.nan, math.inf, -math.inf
    assert np.isnan(mapped(values).values).sum() == 3


@pytest.mark.parametrize("values", [1, 31, 64, 65, 116, 576, 4096, 8192, 49152, 128256])
def test_borders_of_tiles_are_borders_of_cells(values: int) -> None:
    size = cell_size(values, MAX_COLUMNS)
    assert TILE % size == 0 or size % TILE == 0
    assert math.ceil(values / size) <= MAX_COLUMNS


@given(arrays(np.float32, st.tuples(st.just(2), st.integers(1, 400)), elements=FLOATS), st.integers(1, 400))
def test_the_grid_counts_each_pair_where_it_is_however_the_blocks_come(pairs: np.ndarray, block: int) -> None:
    counter = ScatterCounter()
    for start in range(0, pairs.shape[1], block):
        counter.add(*(side[start : start + block] for side in pairs))
    grid = counter.result()
    assert np.abs(pairs).max() < grid.limit
    edges = np.linspace(-grid.limit, grid.limit, BINS + 1)
    expected, *_ = np.histogram2d(*pairs.astype(np.float64), bins=(edges, edges))
    assert np.array_equal(grid.counts, expected)
    assert grid.outside == 0


def test_the_narrow_range_leaves_outliers_out_and_says_how_many() -> None:
    values = np.linspace(-0.9, 0.9, 10_000, dtype=np.float32)
    values[:3] = 500
    counter = ScatterCounter()
    counter.add(values, values)
    narrow = counter.result(0.999)
    assert (narrow.limit, narrow.outside, narrow.counts.sum()) == (1.0, 3, 9_997)
    assert counter.result().limit == 512


def test_one_pass_gives_what_the_tensors_hold(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    reference = torch.randn((300, 700), generator=random)
    port = reference + 0.01 * torch.randn(reference.shape, generator=random)
    reference[:, 33] *= 50
    port[257, 600] += 9
    drawn = reductions_of(saved(tmp_path / "pair.safetensors", reference, port))
    r, t = reference.double().numpy(), port.double().numpy()
    for sums, dim in ((drawn.of_rows, 1), (drawn.of_channels, 0)):
        expected = np.linalg.norm(t - r, axis=dim) / np.linalg.norm(r, axis=dim)
        assert np.allclose(sums.rel_l2(), expected, rtol=1e-12)
    heads = np.linalg.norm((t - r).reshape(300, 7, 100), axis=(0, 2)) / np.linalg.norm(
        r.reshape(300, 7, 100), axis=(0, 2)
    )
    assert np.allclose(drawn.of_channels.rel_l2(7), heads, rtol=1e-12)
    assert np.argmax(drawn.channel_reference) == 33
    assert np.allclose(drawn.channel_error, (port - reference).abs().amax(0).numpy())
    assert drawn.channel_band[600] == 257 // drawn.difference.rows_a_cell
    assert drawn.difference.values.max() == (port - reference).abs().max()
    assert drawn.everything.counts.sum() == reference.numel() == drawn.steps.sum()


def test_steps_apart_are_those_of_bfloat16(tmp_path: Path) -> None:
    one_up = torch.tensor([1.0]).bfloat16().view(torch.int16).add(1).view(torch.bfloat16).float().item()
    reference = torch.tensor([[1.0, 1.0, 0.0, 2.0, -1.0, math.nan]])
    port = torch.tensor([[1.0, one_up, -0.0, 1.0, 1.0, 0.0]])
    steps = reductions_of(saved(tmp_path / "pair.safetensors", reference, port)).steps
    apart = [0, 1, 0, 128, 2 * 0x3F80]
    expected = np.bincount([distance.bit_length() for distance in apart], minlength=len(steps))
    expected[-1] = 1
    assert steps.tolist() == expected.tolist()


def test_values_that_are_not_finite_do_not_hide_the_others(tmp_path: Path) -> None:
    reference = torch.ones(64, 64)
    port = reference.clone()
    port[5, 40], port[9, 41], port[20, 3] = math.nan, math.inf, 3.0
    drawn = reductions_of(saved(tmp_path / "pair.safetensors", reference, port))
    assert np.isnan(drawn.port.values).sum() == 2
    assert drawn.channel_error[3] == 2
    assert np.isinf(drawn.channel_error[[40, 41]]).all()
    assert drawn.everything.counts.sum() == 64 * 64 - 2
