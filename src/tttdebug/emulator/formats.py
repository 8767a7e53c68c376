# SPDX-License-Identifier: Apache-2.0
"""TTNN's number formats. A format is data and a few short functions; `FORMATS` is the table of them.

`quantise` is what the host does in `from_torch`, `pack` what the chip's packer does to an op's result. Both return
the values, exactly, in the format's `storage` type: every block-float value fits a bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.emulator.rounding import pack_bfloat16, to_bfloat16_ties_even

_CHUNK = 1 << 18  # elements quantised at a time, so that the passes of one chunk stay in the cache


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

        Denormals become zero; an infinity or NaN anywhere empties its group.
        """
        return self._by_chunks(x, self.encode)

    def pack(self, dest: Tensor, *, precise: bool = False) -> Tensor:
        """The chip's packer: fp32 is cut to 16 bits, rounded to 6 fraction bits (unless `precise`), then to the group.

        Both roundings take ties away from zero, so the default rounds twice; narrower formats are then truncated
        from 7 magnitude bits.
        """
        return self._by_chunks(dest, self.encode_precisely if precise else self.encode_on_device)

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
        return codes.to(torch.float32).mul_(bits.view(torch.float32))

    def _encode_significands(self, dest: Tensor, *, rounded: bool) -> tuple[Tensor, Tensor]:
        bits = self._groups(dest.to(torch.float32)).view(torch.int32)
        half = (bits >> 16).bitwise_and_(0x7FFF).clamp_(max=0x7F80)
        if rounded:
            half = half.add_(1).bitwise_and_(~1)
        exponents = half >> 7
        shared = exponents.amax(-1, keepdim=True)
        significand = half.bitwise_and_(0x7F).bitwise_or_(0x80).masked_fill_(exponents == 0, 0)
        shift = (shared - exponents).clamp_(max=9)
        codes = significand.add_(torch.ones_like(shift) << shift).bitwise_right_shift_(shift + 1).clamp_(max=127)
        codes >>= 7 - self.magnitude_bits
        return shared, codes.mul_((bits >> 31).bitwise_or_(1))

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
