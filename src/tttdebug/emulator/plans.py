# SPDX-License-Identifier: Apache-2.0
"""What ttnn's host code decides before the chip computes. An op makes a plan, an engine carries it out."""

from __future__ import annotations

from dataclasses import dataclass

from tttdebug.emulator.formats import BFLOAT16, FLOAT32, Format
from tttdebug.emulator.kernel import Kernel


@dataclass(frozen=True)
class Activation:
    """A function of the vector unit, e.g. `Activation("silu")`; some have a quicker, approximate form.

    `parameters` follow the argument, e.g. the slope of a leaky relu.
    """

    name: str
    approx: bool = False
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True)
class UnaryPlan:
    """One function of the vector unit over a tensor."""

    activation: Activation
    output: Format


@dataclass(frozen=True)
class BinaryPlan:
    """An elementwise op of two operands, on the matrix unit ("fpu") or the vector unit ("sfpu")."""

    function: str
    unit: str
    kernel: Kernel
    a: Format
    b: Format
    output: Format
    on_a: tuple[Activation, ...] = ()
    on_b: tuple[Activation, ...] = ()
    after: tuple[Activation, ...] = ()


@dataclass(frozen=True)
class Blocking:
    """How a matrix product cuts K: `in0_block_w` tiles of 32 at a time stay in Dest, `blocks` times.

    `l1_acc` tells that the packer adds the partial sums of the blocks.
    """

    program: str
    in0_block_w: int
    blocks: int
    l1_acc: bool


SINGLE_BLOCK = Blocking("fused", 1, 1, False)


@dataclass(frozen=True)
class MatmulPlan:
    """A matrix product: its kernel, its blocks, the formats of operands and result, what is fused behind it."""

    kernel: Kernel
    blocking: Blocking
    in0: Format
    in1: Format
    output: Format
    activation: Activation | None = None

    @property
    def partials(self) -> Format:
        """The format in which partial sums leave Dest between blocks."""
        if self.kernel.fp32_dest:
            return FLOAT32
        return BFLOAT16 if self.blocking.l1_acc else self.output


@dataclass(frozen=True)
class RotaryPlan:
    """A rotary embedding; every step is packed as `output`."""

    kernel: Kernel
    output: Format


@dataclass(frozen=True)
class NormPlan:
    """An RMS or layer norm over the last dimension."""

    kernel: Kernel
    epsilon: float
    output: Format
    centred: bool = False


@dataclass(frozen=True)
class ReducePlan:
    """A sum, mean or maximum over dimensions of a tensor; `scale` multiplies the result."""

    function: str
    dims: tuple[int, ...]
    kernel: Kernel
    output: Format
    scale: float = 1.0


@dataclass(frozen=True)
class SoftmaxPlan:
    """Softmax over the last dimension; `intermediate` is the format of exponentials and maxima between kernel steps."""

    kernel: Kernel
    intermediate: Format
    output: Format
    stable: bool = True


@dataclass(frozen=True)
class AttentionPlan:
    """Scaled dot-product attention, prefill or decode.

    `approximate_exponential` is Schraudolph's; `streaming` tells the kernel that fp32 Dest rules out.
    """

    kernel: Kernel
    scale: float
    causal: bool
    q_chunk: int
    k_chunk: int
    approximate_exponential: bool
    output: Format
    prefill: bool = True
    window: int | None = None  # a causal query sees itself and the window - 1 keys before it
    cores_per_head: int = 1  # that share the keys of one key/value head of one user in decode

    @property
    def streaming(self) -> bool:
        return not self.kernel.fp32_dest
