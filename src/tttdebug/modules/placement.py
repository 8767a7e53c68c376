# SPDX-License-Identifier: Apache-2.0
"""How a weight lies on the device: its layout there, its number format, and the way back to the reference's layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

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
class RotaryLinear:
    """A query or key projection: besides, each head's rows go from half-split rotary order to interleaved order.

    Hugging Face rotates channel i with channel i + R/2; rotary_embedding_llama, as Meta's code, rotates 2i with 2i + 1.
    R is `rotary_dim`, the whole head unless it is given; channels beyond it stay where they are.
    """

    head_dim: int
    rotary_dim: int | None = None

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return Linear().to_port(interleave_heads(weight, self.head_dim, self.rotary_dim))

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return split_heads_in_halves(Linear().to_reference(placed), self.head_dim, self.rotary_dim)


@dataclass(frozen=True)
class RotaryVector:
    """One value a query or key channel (a bias, or a norm's gain): heads go to interleaved rotary order too."""

    head_dim: int
    rotary_dim: int | None = None
    kept_as: Vector = Vector()

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return self.kept_as.to_port(interleave_heads(weight, self.head_dim, self.rotary_dim))

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return split_heads_in_halves(self.kept_as.to_reference(placed), self.head_dim, self.rotary_dim)


def interleave_heads(rows: torch.Tensor, head_dim: int, rotary_dim: int | None = None) -> torch.Tensor:
    """Rows [heads·E, …] from half-split rotary order to interleaved order, head by head."""
    import torch

    turned, kept = _rotary_part(rows, head_dim, rotary_dim)
    return torch.cat([turned.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2), kept], dim=1).flatten(0, 1)


def split_heads_in_halves(rows: torch.Tensor, head_dim: int, rotary_dim: int | None = None) -> torch.Tensor:
    """The inverse of `interleave_heads`."""
    import torch

    turned, kept = _rotary_part(rows, head_dim, rotary_dim)
    return torch.cat([turned.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2), kept], dim=1).flatten(0, 1)


def _rotary_part(rows: torch.Tensor, head_dim: int, rotary_dim: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows head by head, [heads, …], those that turn and those that do not."""
    heads = rows.unflatten(0, (-1, head_dim))
    boundary = head_dim if rotary_dim is None else rotary_dim
    return heads[:, :boundary], heads[:, boundary:]


@dataclass(frozen=True)
class WeightFormat:
    """Where and how a module keeps one weight, and how the matrix unit reads it: layout, dtype name, math fidelity.

    Below HiFi3 the unit reads 7 significand bits of what is in its SrcB register, and at LoFi 5 of what is in SrcA. A
    matmul has its weight in SrcA and its input in SrcB; a norm has its gain in SrcB. What is dropped is cut, not
    rounded, so these settings shrink results.
    """

    layout: Layout
    dtype: str
    fidelity: str = "HiFi4"
    register: Literal["SrcA", "SrcB"] = "SrcA"

    def quantise(self, weight: torch.Tensor) -> torch.Tensor:
        """The values that the device multiplies by where `weight` is meant, in the reference's layout, fp32."""
        from tttdebug.emulator.formats import FORMATS

        placed = FORMATS[self.dtype].quantise(self.layout.to_port(weight.float()))
        return self.layout.to_reference(_read(placed, self.fidelity, self.register))

    def read_input(self, x: torch.Tensor) -> torch.Tensor:
        """The values that the device multiplies where `x` comes in."""
        return _read(x, self.fidelity, "SrcB")


def _read(x: torch.Tensor, fidelity: str, register: str) -> torch.Tensor:
    """What the phases of a fidelity take of an operand in a register."""
    from tttdebug.emulator.rounding import truncate_fraction

    fraction_bits = _FRACTION_BITS_READ.get((fidelity, register))
    return x if fraction_bits is None else truncate_fraction(x, fraction_bits)


_FRACTION_BITS_READ = {("LoFi", "SrcA"): 4, ("LoFi", "SrcB"): 6, ("HiFi2", "SrcB"): 6}
