# SPDX-License-Identifier: Apache-2.0
"""The emulator's formats equal the host code of the real ttnn in every bit, on 2^20 elements of each kind."""

import numpy as np
import pytest

KINDS = ("normal", "log_uniform", "ties", "near_two", "denormal", "special", "any_finite_bits")
PACKERS = {"bfloat8_b": ("pack_bfp8", "unpack_bfp8"), "bfloat4_b": ("pack_bfp4", "unpack_bfp4")}


@pytest.fixture(scope="module")
def arrays(cases):
    with np.load(cases / "packing.npz") as loaded:
        return dict(loaded)


def in_tiles(x):
    """Elements in the order of memory: tile by tile, face by face, which is what ttnn's packers take."""
    rows, columns = x.shape
    split = x.reshape(rows // 32, 2, 16, columns // 32, 2, 16)
    return np.ascontiguousarray(split.transpose(0, 3, 1, 4, 2, 5)).reshape(-1)


def out_of_tiles(flat, shape):
    rows, columns = shape
    split = flat.reshape(rows // 32, columns // 32, 2, 2, 16, 16)
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(shape)


def assert_same_values(ours, theirs):
    """Equal in every bit; a NaN is a NaN, whatever its sign and fraction."""
    assert ours.shape == theirs.shape
    equal = (ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))
    assert equal.all(), f"{np.count_nonzero(~equal)} of {ours.size} differ"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", PACKERS)
def test_packed_tiles_are_equal_in_every_byte(ttnn, arrays, kind, block):
    pack = getattr(ttnn._ttnn.bfp_utils, PACKERS[block][0])
    theirs = np.asarray(pack(in_tiles(arrays[f"{kind}/input"]))).view(np.uint8).reshape(-1)
    ours = arrays[f"{kind}/{block}"].reshape(-1)
    assert ours.size >= 2**20 * (1 if block == "bfloat8_b" else 0.5)
    assert np.array_equal(ours, theirs), f"{np.count_nonzero(ours != theirs)} of {ours.size} bytes differ"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", PACKERS)
def test_unpacked_values_are_equal_in_every_bit(ttnn, arrays, kind, block):
    unpack = getattr(ttnn._ttnn.bfp_utils, PACKERS[block][1])
    packed = np.ascontiguousarray(arrays[f"{kind}/{block}"]).reshape(-1).view(np.uint32)
    ours = arrays[f"{kind}/{block}/values"]
    theirs = out_of_tiles(np.asarray(unpack(packed)), ours.shape)
    assert_same_values(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", PACKERS)
def test_to_dtype_gives_the_same_values(ttnn, arrays, kind, block):
    host = ttnn.Tensor(arrays[f"{kind}/input"]).to(ttnn.TILE_LAYOUT)
    packed = ttnn.to_dtype(host, dtype=getattr(ttnn, block))
    assert packed.dtype == getattr(ttnn, block)
    theirs = ttnn.to_dtype(packed, dtype=ttnn.float32).to(ttnn.ROW_MAJOR_LAYOUT).to_numpy()
    ours = arrays[f"{kind}/{block}/values"]
    assert_same_values(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_rounds_the_same_way(ttnn, arrays, kind):
    rounded = ttnn.to_dtype(ttnn.Tensor(arrays[f"{kind}/input"]), dtype=ttnn.bfloat16)
    theirs = ttnn.to_dtype(rounded, dtype=ttnn.float32).to_numpy()
    ours = (arrays[f"{kind}/bfloat16"].astype(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert_same_values(ours, theirs)
