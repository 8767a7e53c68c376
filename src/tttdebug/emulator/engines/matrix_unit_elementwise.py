# SPDX-License-Identifier: Apache-2.0
"""Elementwise sums and products of the matrix unit bit by bit, compiled."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from tttdebug.emulator.engines.compiled_jobs import run_jobs
from tttdebug.emulator.engines.dest_register import (
    add_to_dest,
    compiled,
    i32,
    shift_left,
    shift_right,
    use_the_widest_vectors,
)

_SLICE = 1 << 15  # elements that one job computes


def add(a: Tensor, b: Tensor, *, fp32_dest: bool) -> Tensor:
    """a + b of source registers, with broadcasting: the smaller rounded to 10 bits below the larger's exponent."""
    if a.is_cuda:
        from tttdebug.emulator.engines import matrix_unit_gpu  # triton is imported when it is needed

        return matrix_unit_gpu.add(a, b, fp32_dest=fp32_dest)
    return _elementwise(_add_fp32 if fp32_dest else _add_bfloat16, a, b)


def multiply(a: Tensor, b: Tensor, *, phases: int, fp32_dest: bool) -> Tensor:
    """a·b with a in SrcA and b in SrcB, with broadcasting; Dest rounds after each phase."""
    if a.is_cuda:
        from tttdebug.emulator.engines import matrix_unit_gpu

        return matrix_unit_gpu.multiply(a, b, phases=phases, fp32_dest=fp32_dest)
    return _elementwise(_multiply_fp32 if fp32_dest else _multiply_bfloat16, a, b, phases)


def _elementwise(loop, a: Tensor, b: Tensor, *settings: int) -> Tensor:  # type: ignore[no-untyped-def]
    a, b = torch.broadcast_tensors(a, b)
    flat = [x.to(torch.float32).contiguous().view(torch.int32).numpy().reshape(-1) for x in (a, b)]
    out = torch.empty(a.shape, dtype=torch.float32)
    words = out.numpy().view(np.int32).reshape(-1)
    run_jobs(
        lambda start: loop(*(x[start : start + _SLICE] for x in (*flat, words)), *settings),
        range(0, len(words), _SLICE),
    )
    return out


@njit(inline="always")
def _significand(bits):  # type: ignore[no-untyped-def]
    """The 11 bits of a source register, zero for zeros and denormals."""
    kept = i32(i32(shift_right(bits, i32(13)) & i32(0x3FF)) | i32(0x400))
    return kept if i32(bits & i32(0x7F800000)) != i32(0) else i32(0)


@njit(inline="always")
def _negated(value, bits):  # type: ignore[no-untyped-def]
    """`value`, negative where the sign bit of `bits` is set."""
    sign = shift_right(bits, i32(31))
    return i32(i32(value ^ sign) - sign)


@njit(inline="always")
def _sum(a, b, fp32):  # type: ignore[no-untyped-def]
    e_a, e_b = i32(shift_right(a, i32(23)) & i32(255)), i32(shift_right(b, i32(23)) & i32(255))
    top = max(e_a, e_b)
    k_a, k_b = min(i32(top - e_a), i32(24)), min(i32(top - e_b), i32(24))
    m_a = shift_right(i32(_significand(a) + shift_right(shift_left(i32(1), k_a), i32(1))), k_a)
    m_b = shift_right(i32(_significand(b) + shift_right(shift_left(i32(1), k_b), i32(1))), k_b)
    total = i32(_negated(m_a, a) + _negated(m_b, b))
    return add_to_dest(total, top, i32(0), i32(0), i32(0), fp32, False)


@njit(inline="always")
def _phase(sign, exponent, a_part, b_part, dest, runs, fp32):  # type: ignore[no-untyped-def]
    """One phase's product into Dest; a phase that does not run adds nothing, which leaves Dest as it is."""
    e = max(exponent, i32(0)) if runs else i32(0)
    m = _negated(i32(a_part * b_part), sign) if e > i32(0) else i32(0)
    return add_to_dest(m, e, i32(0), i32(0), dest, fp32, False)


@njit(inline="always")
def _product(a, b, phases, fp32):  # type: ignore[no-untyped-def]
    m_a, m_b = _significand(a), _significand(b)
    exponent = i32(i32(shift_right(a, i32(23)) & i32(255)) + i32(shift_right(b, i32(23)) & i32(255)) - i32(127))
    exponent = exponent if (m_a != i32(0)) & (m_b != i32(0)) else i32(0)
    a_first, a_next = shift_right(m_a, i32(6)), i32(shift_right(m_a, i32(1)) & i32(31))
    b_first, b_last = shift_right(m_b, i32(4)), shift_left(i32(m_b & i32(15)), i32(3))
    sign = i32(a ^ b)
    dest = _phase(sign, exponent, a_first, b_first, i32(0), True, fp32)
    dest = _phase(sign, i32(exponent - i32(5)), a_next, b_first, dest, phases > 1, fp32)
    dest = _phase(sign, i32(exponent - i32(7)), a_first, b_last, dest, phases > 2, fp32)
    return _phase(sign, i32(exponent - i32(12)), a_next, b_last, dest, phases > 3, fp32)


@compiled
def _add_fp32(a, b, out):  # type: ignore[no-untyped-def]
    use_the_widest_vectors()
    for n in range(out.shape[0]):
        out[n] = _sum(a[n], b[n], True)


@compiled
def _add_bfloat16(a, b, out):  # type: ignore[no-untyped-def]
    use_the_widest_vectors()
    for n in range(out.shape[0]):
        out[n] = _sum(a[n], b[n], False)


@compiled
def _multiply_fp32(a, b, out, phases):  # type: ignore[no-untyped-def]
    use_the_widest_vectors()
    for n in range(out.shape[0]):
        out[n] = _product(a[n], b[n], phases, True)


@compiled
def _multiply_bfloat16(a, b, out, phases):  # type: ignore[no-untyped-def]
    use_the_widest_vectors()
    for n in range(out.shape[0]):
        out[n] = _product(a[n], b[n], phases, False)
