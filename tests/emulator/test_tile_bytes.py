# SPDX-License-Identifier: Apache-2.0
"""Tiles hold the bytes that the host and the chip write; special values come out as the chip's units make them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tttdebug.emulator import block_packing, open_device, ttnn
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT8_B, BFLOAT16, FLOAT32, FORMATS, INT32, TF32, UINT16, Packer
from tttdebug.emulator.tiles import from_faces, to_faces

BLOCKS = [BFLOAT8_B, BFLOAT4_B]
GROUP = [1, -1, 0.5, 1.9921875, 1.00390625, 1.01171875, 1.0078125, 0.01, -0.0, 0, 1.0234375, -1.984375, 0.0234375,
         0.015625, 0.0078125, 0.03125]  # fmt: skip
# The same group in a tile's first face row: its exponent and its codes, as the host's packing function of ttnn 0.81.1
# and the chip's packer write them.
WRITTEN = [
    (BFLOAT8_B, Packer.HOST, 127, "40 C0 20 7F 40 41 40 01 00 00 42 FF 02 01 00 02"),
    (BFLOAT8_B, Packer.DEVICE, 128, "20 A0 10 40 20 21 21 00 00 00 21 C0 01 01 00 01"),
    (BFLOAT8_B, Packer.PRECISE, 127, "40 C0 20 7F 40 41 41 01 00 00 42 FF 02 01 01 02"),
    (BFLOAT4_B, Packer.HOST, 127, "C4 72 44 04 00 F4 00 00"),
    (BFLOAT4_B, Packer.DEVICE, 128, "A2 41 22 02 00 C2 00 00"),
]
words = arrays(np.uint32, (6, 48), elements=st.integers(0, 2**32 - 1) | st.sampled_from(
    [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x3F800000]
))  # fmt: skip


def one_group(values):
    x = torch.zeros(32, 32)
    x[0, :16] = torch.tensor(values)
    return x


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int16), b.contiguous().view(torch.int16))


@pytest.mark.parametrize(("form", "packer", "exponent", "codes"), WRITTEN)
def test_a_group_is_written_as_the_hosts_and_the_chips_bytes(form, packer, exponent, codes):
    tile = form.pack_bits(one_group(GROUP), packer)[0].tolist()
    assert len(tile) == round(1024 * form.bytes_per_element)
    assert tile[0] == exponent
    assert " ".join(f"{byte:02X}" for byte in tile[64:][: len(codes.split())]) == codes
    assert not any(tile[1:64])


@pytest.mark.parametrize("form", BLOCKS)
def test_exponents_and_codes_lie_face_by_face(form):
    x = torch.zeros(64, 64)
    x[32 + 17, 3] = 2.0  # tile 2, its lower left face, row 1, column 3
    tiles = form.pack_bits(x)
    assert tiles.shape == (4, round(1024 * form.bytes_per_element))
    place = (2 * 16 + 1) * 16 + 3
    byte, code = (place, 0x40) if form is BFLOAT8_B else (place // 2, 0x40)
    assert tiles.nonzero().tolist() == [[2, 2 * 16 + 1], [2, 64 + byte]]
    assert tiles[2, 33] == 128
    assert tiles[2, 64 + byte] == code


@settings(deadline=None)  # the first example compiles
@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70)),
              elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)),
       st.sampled_from(sorted(FORMATS)))  # fmt: skip
def test_what_is_written_is_read_again(x, name):
    form = FORMATS[name]
    values = form.quantise(torch.from_numpy(x))
    read = form.unpack_bits(form.pack_bits(torch.from_numpy(x)), x.shape)
    if form in BLOCKS:
        assert torch.equal(read, values)  # no matter whether −0: a block format has none
    else:
        assert torch.equal(read, values)
        assert read.dtype == values.dtype


def assert_same_numbers(ours, theirs):
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours.nan_to_num(0.0), theirs.nan_to_num(0.0))


@settings(deadline=None)  # the first example compiles
@given(words, st.sampled_from(BLOCKS), st.sampled_from(list(Packer)))
def test_compiled_loops_write_what_the_formulas_say(bits, form, packer):
    """Every word, infinities, NaN and denormals too: values and tiles."""
    x = torch.from_numpy(bits.view(np.float32))
    encode = {Packer.HOST: form.encode, Packer.DEVICE: form.encode_on_device, Packer.PRECISE: form.encode_precisely}
    exponents, codes = encode[packer](x)
    halves = np.empty((18, 16), np.int16)
    block_packing.values_into(halves, bits.view(np.int32), packer.value, form.magnitude_bits)
    values = torch.from_numpy(halves).view(torch.bfloat16)
    assert_same_numbers(values, form.decode(exponents, codes).bfloat16())
    tiles = form.pack_bits(x, packer)
    assert_same_numbers(form.unpack_bits(tiles, x.shape).flatten(), values.flatten())
    faces = to_faces(torch.from_numpy(exponents.numpy().reshape(6, 3).repeat(16, 1)))
    assert torch.equal(tiles[:, :64].reshape(-1).int(), faces[..., 0].reshape(-1).int())


@pytest.mark.parametrize("form", BLOCKS)
@pytest.mark.parametrize("precise", [False, True])
def test_large_tensors_take_the_compiled_way_and_come_out_the_same(form, precise, monkeypatch):
    x = torch.randn(3, 70, 100) * torch.randn(3, 70, 1).mul(20).exp2()
    quantised, packed = form.quantise(x), form.pack(x, precise=precise)
    for least in ("_WORTH_COMPILING", "_WORTH_COMPILING_ONCE_STARTED"):
        monkeypatch.setattr(f"tttdebug.emulator.formats.{least}", 1)
    called = []
    values_into = block_packing.values_into
    monkeypatch.setattr(block_packing, "values_into", lambda *a: called.append(1) or values_into(*a))
    assert torch.equal(form.quantise(x), quantised)
    assert torch.equal(form.pack(x, precise=precise), packed)
    assert torch.equal(form.quantise(x.bfloat16()), form.quantise(x.bfloat16().float()))
    assert called


@pytest.mark.parametrize("form", BLOCKS)
def test_every_code_is_unpacked_to_its_value(form):
    """The unpacker gives the host's values; a negative zero, which no packer writes, is −∞ to it."""
    sign, count = 1 << form.magnitude_bits, 2 << form.magnitude_bits
    codes = torch.arange(count).repeat(1024 // count)
    body = codes if form is BFLOAT8_B else codes[::2] | codes[1::2] << 4
    tile = torch.cat([torch.full((64,), 130), body]).to(torch.uint8)[None]
    host, device = (to_faces(form.unpack_bits(tile, (32, 32), on_device=on)).flatten() for on in (False, True))
    exact = (codes & (sign - 1)) * 2.0 ** (130 - 127 - form.magnitude_bits + 1) * torch.where(codes < sign, 1, -1)
    assert torch.equal(host.double(), exact.double())
    negative_zero = codes == sign
    assert (device[negative_zero] == -math.inf).all()
    assert same_bits(device[~negative_zero], host[~negative_zero])


def test_the_unpackers_exponent_wraps_below_the_normal_range():
    tile = torch.zeros(1, 1088, dtype=torch.uint8)
    tile[0, 0], tile[0, 64] = 3, 1  # the least code of a group with exponent 3: 2^(3 − 127 − 6)
    assert BFLOAT8_B.unpack_bits(tile, (32, 32))[0, 0].item() == 2.0**-130
    assert int(BFLOAT8_B.unpack_bits(tile, (32, 32), on_device=True).view(torch.int16)[0, 0]) & 0xFFFF == 253 << 7


@pytest.mark.parametrize(("form", "size"), [(FLOAT32, 4096), (BFLOAT16, 2048), (INT32, 4096), (UINT16, 2048)])
def test_plain_formats_are_little_endian_words(form, size):
    x = torch.zeros(32, 32)
    x[1, 16] = 1.0
    tile = form.pack_bits(x)[0]
    width = size // 1024
    word = {FLOAT32: [0, 0, 0x80, 0x3F], BFLOAT16: [0x80, 0x3F], INT32: [1, 0, 0, 0], UINT16: [1, 0]}[form]
    at = (256 + 16) * width
    assert tile.shape == (size,)
    assert tile[at : at + width].tolist() == word
    assert int(tile.count_nonzero()) == sum(byte != 0 for byte in word)


@pytest.mark.parametrize(
    ("value", "half"), [(1.00390625, 0x3F80), (1.01171875, 0x3F82), (3.4e38, 0x7F80), (1e-40, 0x0001)]
)
def test_the_host_rounds_to_even_and_keeps_denormals(value, half):
    assert int(BFLOAT16.quantise(torch.tensor([value])).view(torch.int16)) == half


def test_a_source_register_cuts_to_ten_fraction_bits():
    x = torch.tensor([1 + 2.0**-10 + 2.0**-11, -(1 + 2.0**-23), 2.0**-130])
    assert TF32.unpack(x).tolist() == [1 + 2.0**-10, -1.0, 2.0**-130]
    assert torch.equal(TF32.unpack(TF32.unpack(x)), TF32.unpack(x))


def test_faces_go_back_where_they_came_from():
    x = torch.randn(2, 3, 40, 70)
    assert torch.equal(from_faces(to_faces(x), x.shape), x)


SPECIAL = [math.inf, -math.inf, math.nan, 1e-40, -1e-40, -0.0, 1.0]
HOST_READS = {
    "float32": [math.inf, -math.inf, math.nan, 1e-40, -1e-40, -0.0, 1.0],
    "bfloat16": [math.inf, -math.inf, math.nan, 2.0**-133 * 1, 2.0**-133 * -1, -0.0, 1.0],
    "bfloat8_b": [math.inf, -math.inf, None, 0.0, 0.0, 0.0, 0.0],
    "bfloat4_b": [math.inf, -math.inf, None, 0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("name", HOST_READS)
def test_special_values_on_the_host(name):
    """A block format takes infinity for a large number and loses everything beside it."""
    read = FORMATS[name].quantise(torch.tensor([SPECIAL + [0.0] * 9])).double()[0, :7].tolist()
    for value, got, wanted in zip(SPECIAL, read, HOST_READS[name], strict=True):
        if wanted is None:
            continue
        if math.isnan(wanted):
            assert math.isnan(got)
        elif abs(value) == 1e-40:
            assert math.copysign(1, got) == math.copysign(1, wanted)
            assert abs(got - wanted) < 1e-40
        else:
            assert got == wanted, value
            assert math.copysign(1, got) == math.copysign(1, wanted) or name.startswith("bfloat8")


@pytest.mark.parametrize("name", ["bfloat16", "bfloat8_b", "bfloat4_b"])
def test_special_values_in_the_packer(name):
    """NaN becomes infinite, denormals and −0 become +0."""
    packed = FORMATS[name].pack(torch.tensor([[-math.nan, *[0.0] * 15], [1e-40, -1e-40, -0.0, 1.0, *[0.0] * 12]]))
    assert packed[0, 0].isinf()
    assert packed[1, :4].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert not packed[1, :3].signbit().any()


@pytest.mark.parametrize("name", ["bfloat8_b", "bfloat4_b"])
def test_the_largest_denormal_is_no_number_to_the_packer(name):
    largest = torch.tensor([0x007FFFFF], dtype=torch.int32).view(torch.float32).item()
    assert not FORMATS[name].pack(torch.tensor([[largest, *[0.0] * 15]])).any()


@pytest.mark.parametrize("engine", ["fast", "exact"])
@pytest.mark.parametrize("op", ["add", "multiply", "subtract"])
def test_units_flush_denormals_and_saturate_to_infinity(engine, op):
    device = open_device(engine)
    a, b = (torch.full((32, 32), v).bfloat16() for v in (1e-39, 3e38))
    a[0], b[0] = 3e38, -3e38 if op == "subtract" else 3e38
    x, y = (ttnn.from_torch(v, layout=ttnn.TILE_LAYOUT, device=device) for v in (a, b))
    out = ttnn.to_torch(getattr(ttnn, op)(x, y)).float()
    assert out[0].isinf().all()
    expected = {"add": b[1, 0], "subtract": -b[1, 0], "multiply": torch.tensor(0.0)}[op]
    assert (out[1:] == expected.float()).all()
