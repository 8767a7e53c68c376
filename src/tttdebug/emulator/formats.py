# SPDX-License-Identifier: Apache-2.0
"""TTNN's number formats. A format is data and a few short functions; `FORMATS` is the table of them.

`quantise` is what the host does in `from_torch`, `pack` what the chip's packer does to an op's result. Both return
the values, exactly, in the format's `storage` type: every block-float value fits a bfloat16. `pack_bits` gives the
bytes of the tiles that either writes, `unpack_bits` what the host, or the chip's unpacker, reads from them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tttdebug.emulator.rounding import pack_bfloat16, to_bfloat16_ties_even, truncate_fraction
from tttdebug.emulator.tiles import FACES, TILE, from_faces, padded, to_faces

_CHUNK = 1 << 18  # elements quantised at a time, so that the passes of one chunk stay in the cache
_WORTH_COMPILING = 1 << 24  # elements from which compiled loops are sooner done, their start included
_WORTH_COMPILING_ONCE_STARTED = 1 << 16


class Packer(Enum):
    """Who writes a tile: the host, or the chip's packer; that one rounds to 6 fraction bits first unless precise."""

    HOST = 0
    DEVICE = 1
    PRECISE = 2


@dataclass(frozen=True)
class SourceFormat:
    """How an fp32 tile lies in a source register of the matrix unit: cut to its first fraction bits."""

    name: str
    fraction_bits: int

    def unpack(self, x: Tensor) -> Tensor:
        """The values that the matrix unit sees, fp32; denormals stay, it takes them for zero itself."""
        return truncate_fraction(x.to(torch.float32), self.fraction_bits)


@dataclass(frozen=True)
class FloatFormat:
    """An IEEE-like format that torch has a type for."""

    name: str
    storage: torch.dtype
    bytes_per_element: float

    def quantise(self, x: Tensor) -> Tensor:
        """Host conversion: ties to even, denormals and NaN kept."""
        return to_bfloat16_ties_even(x) if self.storage == torch.bfloat16 else x.to(torch.float32)

    def pack(self, dest: Tensor, *, precise: bool = False) -> Tensor:
        """The packer: fp32 passes, bfloat16 takes ties away from zero; denormals and −0 to +0, NaN to infinity."""
        if self.storage == torch.float32:
            return dest.to(torch.float32)
        return pack_bfloat16(dest)

    def pack_bits(self, x: Tensor, packer: Packer = Packer.HOST) -> Tensor:
        """The tiles of x, uint8 [tiles, bytes]: face by face, little-endian words."""
        values = self.quantise(x) if packer is Packer.HOST else self.pack(x)
        return to_faces(values).flatten(1).contiguous().view(torch.uint8)

    def unpack_bits(self, tiles: Tensor, shape: tuple[int, ...], *, on_device: bool = False) -> Tensor:
        """The values of tiles; the chip's unpacker reads a bfloat16 denormal as a zero of its sign."""
        values = from_faces(tiles.contiguous().view(self.storage).view(-1, FACES, 16, 16), shape)
        if not on_device or self.storage == torch.float32:
            return values
        return torch.where(values.abs() < 2.0**-126, torch.copysign(torch.zeros_like(values), values), values)


@dataclass(frozen=True)
class BlockFormat:
    """A block floating-point format: `group` neighbours along the last dimension share one 8-bit exponent.

    A value is `code · 2^(exponent − 127 − (magnitude_bits − 1))` with a signed code of `magnitude_bits` bits.
    """

    name: str
    magnitude_bits: int
    bytes_per_element: float
    group: int = 16
    storage: torch.dtype = torch.bfloat16

    @property
    def largest_code(self) -> int:
        return (1 << self.magnitude_bits) - 1

    def quantise(self, x: Tensor) -> Tensor:
        """Host conversion: aligned to the group's largest exponent by truncation, then ties to even, saturating.

        Denormals become zero; beside an infinity or NaN a value loses what lies below the group's last bit: nearly all.
        """
        if _is_large(x):
            return self._compiled(x, Packer.HOST)
        return self._by_chunks(x, self.encode)

    def pack(self, dest: Tensor, *, precise: bool = False) -> Tensor:
        """The chip's packer: fp32 is cut to 16 bits, rounded to 6 fraction bits (unless `precise`), then to the group.

        Both roundings take ties away from zero, so the default rounds twice; narrower formats are then truncated
        from 7 magnitude bits.
        """
        if _is_large(dest):
            return self._compiled(dest, Packer.PRECISE if precise else Packer.DEVICE)
        return self._by_chunks(dest, self.encode_precisely if precise else self.encode_on_device)

    def pack_bits(self, x: Tensor, packer: Packer = Packer.HOST) -> Tensor:
        """The tiles of x, uint8 [tiles, bytes]: an exponent byte per face row, then the codes, both face by face.

        A bfloat8_b code takes a byte, a bfloat4_b code half a one, the lower half first. Both have the sign on top.
        """
        if x.device.type == "cpu":
            return self._compiled_tiles(x, packer)
        encode = {
            Packer.HOST: self.encode,
            Packer.DEVICE: self.encode_on_device,
            Packer.PRECISE: self.encode_precisely,
        }
        faces = to_faces(x.to(torch.float32))
        shared, codes = encode[packer](faces)
        signed = codes.abs() | torch.where(codes < 0, 1 << self.magnitude_bits, 0)
        if self.magnitude_bits < 7:
            signed = signed[:, ::2] | signed[:, 1::2] << 4
        parts = [part.reshape(faces.shape[0], -1).to(torch.uint8) for part in (shared, signed)]
        return torch.cat(parts, 1)

    def unpack_bits(self, tiles: Tensor, shape: tuple[int, ...], *, on_device: bool = False) -> Tensor:
        """The values of tiles as the host reads them, or the chip's unpacker.

        They differ in what no packer writes: a negative zero is −∞ to the unpacker, and below the normal range its
        exponent wraps.
        """
        exponents = tiles[:, : FACES * 16].reshape(-1, FACES, 16, 1).to(torch.int32)
        codes = tiles[:, FACES * 16 :].to(torch.int32)
        if self.magnitude_bits < 7:
            codes = torch.stack([codes & 15, codes >> 4], -1)
        codes = codes.reshape(-1, FACES, 16, 16)
        negative, size = codes >> self.magnitude_bits == 1, codes & self.largest_code
        if on_device:
            values = _expanded(exponents, negative, size << (7 - self.magnitude_bits))
        else:
            values = torch.where(negative, -1.0, 1.0) * self.decode(exponents, size)
        return from_faces(values.to(self.storage), shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shared exponents [groups, 1] and signed codes [groups, 16] of the host packer, both int32."""
        bits = self._groups(x.to(torch.float32)).view(torch.int32)
        magnitude = bits & 0x7FFFFFFF
        exponents = magnitude >> 23
        shared = exponents.amax(-1, keepdim=True)
        significand = magnitude.bitwise_and_(0x7FFFFF).bitwise_or_(0x800000).masked_fill_(exponents == 0, 0)
        significand >>= (shared - exponents).clamp_(max=31)
        drop = 24 - self.magnitude_bits
        odd = (significand >> drop).bitwise_and_(1)
        codes = significand.add_((1 << (drop - 1)) - 1).add_(odd).bitwise_right_shift_(drop)
        return shared, codes.clamp_(max=self.largest_code).mul_((bits >> 31).bitwise_or_(1))

    def encode_on_device(self, dest: Tensor) -> tuple[Tensor, Tensor]:
        """Shared exponents and signed codes of the packer in its default mode."""
        return self._encode_significands(dest, rounded=True)

    def encode_precisely(self, dest: Tensor) -> tuple[Tensor, Tensor]:
        """Shared exponents and signed codes of the packer in its precise mode, which only typecast uses."""
        return self._encode_significands(dest, rounded=False)

    def decode(self, exponents: Tensor, codes: Tensor) -> Tensor:
        """The values, fp32, of shared exponents and signed codes."""
        scale = exponents - (self.magnitude_bits - 1)
        bits = torch.where(scale > 0, scale << 23, (1 << 22) >> (-scale).clamp(0, 31))
        values = codes.to(torch.float32).mul_(bits.view(torch.float32))
        if bool((exponents == 255).any()):  # at the exponent of infinity, a code beyond it is a NaN
            values.masked_fill_((exponents == 255) & (codes.abs() > 1 << (self.magnitude_bits - 1)), torch.nan)
        return values

    def _encode_significands(self, dest: Tensor, *, rounded: bool) -> tuple[Tensor, Tensor]:
        bits = self._groups(dest.to(torch.float32)).view(torch.int32)
        half = (bits >> 16).bitwise_and_(0x7FFF).clamp_(max=0x7F80)
        half = half.masked_fill_(half < 0x80, 0)
        if rounded:
            half = half.add_(1).bitwise_and_(~1)
        exponents = half >> 7
        shared = exponents.amax(-1, keepdim=True)
        significand = half.bitwise_and_(0x7F).bitwise_or_(0x80).masked_fill_(exponents == 0, 0)
        shift = (shared - exponents).clamp_(max=9)
        codes = significand.add_(torch.ones_like(shift) << shift).bitwise_right_shift_(shift + 1).clamp_(max=127)
        codes >>= 7 - self.magnitude_bits
        return shared, codes.mul_((bits >> 31).bitwise_or_(1))

    def _compiled(self, x: Tensor, packer: Packer) -> Tensor:
        """The values by compiled loops; the same as by chunks."""
        from tttdebug.emulator import block_packing

        width = x.shape[-1]
        rows = padded(x.reshape(-1, width), 1, self.group)
        values = torch.empty(rows.shape, dtype=self.storage)
        halves = values.view(torch.int16).numpy()
        for part in _parts(rows, 1):
            block_packing.values_into(halves[part], _words(rows[part]), packer.value, self.magnitude_bits)
        return values[:, :width].reshape(x.shape)

    def _compiled_tiles(self, x: Tensor, packer: Packer) -> Tensor:
        """The tiles by compiled loops."""
        from tttdebug.emulator import block_packing

        whole = padded(x, TILE, TILE)
        rows = whole.reshape(-1, whole.shape[-1])
        tiles = torch.empty(rows.numel() // 1024, block_packing.tile_bytes(self.magnitude_bits), dtype=torch.uint8)
        for part in _parts(rows, TILE):
            those = slice(*(row // TILE * rows.shape[1] // TILE for row in (part.start, part.stop)))
            block_packing.tiles_into(tiles[those].numpy(), _words(rows[part]), packer.value, self.magnitude_bits)
        return tiles

    def _groups(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.group)

    def _by_chunks(self, x: Tensor, encode: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        width = x.shape[-1] if x.ndim else 1
        padding = -width % self.group
        rows = torch.nn.functional.pad(x.reshape(-1, width), (0, padding)) if padding else x.reshape(-1)
        flat = rows.reshape(-1)
        values = torch.empty(flat.shape, dtype=self.storage, device=x.device)
        size = _CHUNK if x.device.type == "cpu" else max(1, flat.numel())
        for start in range(0, flat.numel(), size):
            chunk = slice(start, start + size)
            values[chunk] = self.decode(*encode(flat[chunk])).reshape(-1)
        if padding:
            values = values.reshape(-1, width + padding)[:, :width]
        return values.reshape(x.shape)


@dataclass(frozen=True)
class IntegerFormat:
    """An integer type: `storage` is the torch type that the emulator computes in, `torch_dtype` that of `to_torch`."""

    name: str
    storage: torch.dtype
    torch_dtype: torch.dtype
    minimum: int
    maximum: int
    bytes_per_element: float

    def quantise(self, x: Tensor) -> Tensor:
        """Truncated toward zero and saturated; integers wrap as in torch."""
        if x.is_floating_point():
            x = x.to(torch.float64).nan_to_num(nan=0.0).clamp(self.minimum, self.maximum)
        return x.to(self.storage)

    def pack(self, dest: Tensor, *, precise: bool = False) -> Tensor:
        return self.quantise(dest)

    def pack_bits(self, x: Tensor, packer: Packer = Packer.HOST) -> Tensor:
        """The tiles of x, uint8 [tiles, bytes]: face by face, little-endian words."""
        words = to_faces(self.quantise(x)).flatten(1).to(torch.int64)
        return words.to(self.torch_dtype).contiguous().view(torch.uint8)

    def unpack_bits(self, tiles: Tensor, shape: tuple[int, ...], *, on_device: bool = False) -> Tensor:
        values = tiles.contiguous().view(self.torch_dtype).to(self.storage)
        return from_faces(values.view(-1, FACES, 16, 16), shape)


def _parts(rows: Tensor, multiple: int) -> Iterator[slice]:
    """Slices of rows, so many at a time that what is made of them stays in the cache."""
    height = max(1, _CHUNK // 4 // (multiple * rows.shape[1])) * multiple
    for start in range(0, rows.shape[0], height):
        yield slice(start, min(start + height, rows.shape[0]))


def _words(x: Tensor) -> np.ndarray[Any, Any]:
    """fp32 patterns, int32, as compiled loops take them."""
    return x.to(torch.float32).contiguous().view(torch.int32).numpy()


def _is_large(x: Tensor) -> bool:
    least = _WORTH_COMPILING_ONCE_STARTED if "numba" in sys.modules else _WORTH_COMPILING
    return x.device.type == "cpu" and x.numel() >= least


def _expanded(exponents: Tensor, negative: Tensor, size: Tensor) -> Tensor:
    """Block values as the unpacker makes bfloat16 of them: 7-bit sizes normalised, exponents of 8 bits that wrap."""
    leading_zeros = 6 - torch.frexp(size.to(torch.float32))[1].sub(1)
    exponent = (exponents - leading_zeros) & 255
    pattern = exponent << 7 | (size << (leading_zeros + 1).clamp(max=8)) & 0x7F
    pattern = torch.where(size == 0, torch.where(negative, 0x7F80, 0), pattern)
    return (pattern | negative.to(torch.int32) << 15).to(torch.int16).view(torch.bfloat16)


TF32 = SourceFormat("tf32", fraction_bits=10)
FLOAT32 = FloatFormat("float32", torch.float32, 4)
BFLOAT16 = FloatFormat("bfloat16", torch.bfloat16, 2)
BFLOAT8_B = BlockFormat("bfloat8_b", magnitude_bits=7, bytes_per_element=1088 / 1024)
BFLOAT4_B = BlockFormat("bfloat4_b", magnitude_bits=3, bytes_per_element=576 / 1024)
UINT32 = IntegerFormat("uint32", torch.int64, torch.uint32, 0, 2**32 - 1, 4)
INT32 = IntegerFormat("int32", torch.int32, torch.int32, -(2**31), 2**31 - 1, 4)
UINT16 = IntegerFormat("uint16", torch.int32, torch.uint16, 0, 2**16 - 1, 2)
UINT8 = IntegerFormat("uint8", torch.uint8, torch.uint8, 0, 255, 1)

Format = FloatFormat | BlockFormat | IntegerFormat
FORMATS: dict[str, Format] = {
    f.name: f for f in (FLOAT32, BFLOAT16, BFLOAT8_B, BFLOAT4_B, UINT32, INT32, UINT16, UINT8)
}
