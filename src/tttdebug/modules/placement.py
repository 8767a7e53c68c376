# SPDX-License-Identifier: Apache-2.0
"""How a weight lies on the device: its layout there, its number format, and the way back to the reference's layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tttdebug.modules.hardware import HIFI4, ComputeKernel
from tttdebug.modules.positions import whole_tiles

if TYPE_CHECKING:
    import torch


class Layout(Protocol):
    """A reversible change from the reference's layout of a weight to the port's."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor: ...

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Rows:
    """Rows of a table, as they are: embeddings."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return weight

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return placed


@dataclass(frozen=True)
class Vector:
    """One value a channel: [D] becomes [1, 1, 1, D]."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.reshape(1, 1, 1, -1)

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return placed.reshape(-1)


@dataclass(frozen=True)
class Linear:
    """torch keeps [out, in]; ttnn.linear multiplies by [in, out], so block formats share exponents along `out`."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.transpose(0, 1).contiguous()

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return placed.transpose(0, 1)


@dataclass(frozen=True)
class HeadLinear:
    """A projection to heads: rows go to interleaved rotary order head by head, and each head is padded to whole tiles.

    Hugging Face rotates channel i with channel i + R/2; rotary_embedding_llama, as Meta's code, rotates 2i with 2i + 1.
    R is `rotary_dim`, 0 where nothing turns; channels beyond it stay where they are. ttnn's ops on heads take whole
    tiles only, so the channels that a head lacks are zeros.
    """

    head_dim: int
    rotary_dim: int = 0

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return Linear().to_port(pad_heads(interleave_heads(weight, self.head_dim, self.rotary_dim), self.head_dim))

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        rows = unpad_heads(Linear().to_reference(placed), self.head_dim)
        return split_heads_in_halves(rows, self.head_dim, self.rotary_dim)


@dataclass(frozen=True)
class HeadVector:
    """One value a channel of heads (a bias, or a norm's gain), in the order and with the padding of HeadLinear."""

    head_dim: int
    rotary_dim: int = 0
    kept_as: Vector = Vector()

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        kept = self.kept_as.to_port(interleave_heads(weight, self.head_dim, self.rotary_dim))
        return Vector().to_port(pad_heads(kept.flatten(), self.head_dim))

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        kept = self.kept_as.to_reference(unpad_heads(placed.flatten(), self.head_dim))
        return split_heads_in_halves(kept, self.head_dim, self.rotary_dim)


@dataclass(frozen=True)
class FromHeads:
    """The projection out of the heads: it reads them side by side, each padded to whole tiles, which count nothing."""

    head_dim: int

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return pad_heads(Linear().to_port(weight), self.head_dim)

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return Linear().to_reference(unpad_heads(placed, self.head_dim))


def interleave_heads(rows: torch.Tensor, head_dim: int, rotary_dim: int) -> torch.Tensor:
    """Rows [heads·E, …] from half-split rotary order to interleaved order, head by head."""
    return _reorder(rows, head_dim, rotary_dim, halves_first=True)


def split_heads_in_halves(rows: torch.Tensor, head_dim: int, rotary_dim: int) -> torch.Tensor:
    """The inverse of `interleave_heads`."""
    return _reorder(rows, head_dim, rotary_dim, halves_first=False)


def _reorder(rows: torch.Tensor, head_dim: int, rotary_dim: int, halves_first: bool) -> torch.Tensor:
    import torch

    if rotary_dim == 0:
        return rows
    heads = rows.unflatten(0, (-1, head_dim))
    turned = heads[:, :rotary_dim].unflatten(1, (2, -1) if halves_first else (-1, 2)).transpose(1, 2).flatten(1, 2)
    return torch.cat([turned, heads[:, rotary_dim:]], dim=1).flatten(0, 1)


def pad_heads(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows [heads·E, …] with zeros behind each head's, up to whole tiles."""
    import torch

    missing = whole_tiles(head_dim) - head_dim
    if not missing:
        return rows
    heads = rows.unflatten(0, (-1, head_dim))
    return torch.cat([heads, heads.new_zeros(heads.shape[0], missing, *heads.shape[2:])], dim=1).flatten(0, 1)


def unpad_heads(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """The inverse of `pad_heads`."""
    return rows.unflatten(0, (-1, whole_tiles(head_dim)))[:, :head_dim].flatten(0, 1)


@dataclass(frozen=True)
class WeightFormat:
    """Where and how a module keeps one weight, and how the matrix unit reads it: layout, dtype name, kernel.

    Below HiFi3 the unit reads 7 significand bits of what is in its SrcB register, and at LoFi 5 of what is in SrcA. A
    matmul has its weight in SrcA and its input in SrcB; a norm has its gain in SrcB. What is dropped is cut, not
    rounded, so these settings shrink results.
    """

    layout: Layout
    dtype: str
    kernel: ComputeKernel = HIFI4
    register: Literal["SrcA", "SrcB"] = "SrcA"

    def quantise(self, weight: torch.Tensor) -> torch.Tensor:
        """The values that the device multiplies by where `weight` is meant, in the reference's layout, fp32."""
        from tttdebug.emulator.formats import FORMATS

        placed = FORMATS[self.dtype].quantise(self.layout.to_port(weight.float()))
        return self.layout.to_reference(_read(placed, self.kernel.math_fidelity, self.register))

    def read_input(self, x: torch.Tensor) -> torch.Tensor:
        """The values that the device multiplies where `x` comes in."""
        return _read(x, self.kernel.math_fidelity, "SrcB")


def _read(x: torch.Tensor, fidelity: str, register: str) -> torch.Tensor:
    """What the phases of a fidelity take of an operand in a register."""
    from tttdebug.emulator.rounding import truncate_fraction

    fraction_bits = _FRACTION_BITS_READ.get((fidelity, register))
    return x if fraction_bits is None else truncate_fraction(x, fraction_bits)


_FRACTION_BITS_READ = {("LoFi", "SrcA"): 4, ("LoFi", "SrcB"): 6, ("HiFi2", "SrcB"): 6}
