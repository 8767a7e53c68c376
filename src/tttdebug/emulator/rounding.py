# SPDX-License-Identifier: Apache-2.0
"""The rounding rules of the chip, each under its own name. Every function keeps the shape and works on CPU and CUDA.

Host conversion, the L1 accumulator and the vector unit's software rounding take ties to even; the matrix unit, the
packer and the vector unit's rounding instruction take them away from zero; the unpackers cut.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_NORMAL = 2.0**-126
LARGEST_DENORMAL_BFLOAT16 = SMALLEST_NORMAL - 2.0**-133
_LARGEST_FLUSHED = (
    SMALLEST_NORMAL - 2.0**-134 - 2.0**-149
)  # the largest fp32 that does not round up to a normal bfloat16


def to_bfloat16_ties_even(x: Tensor) -> Tensor:
    """fp32 → bfloat16, nearest, ties to even; overflow becomes infinite, denormals are kept."""
    return x.to(torch.bfloat16)


def to_bfloat16_ties_away(x: Tensor) -> Tensor:
    """fp32 → bfloat16, nearest, ties away from zero; a NaN stays one unless its payload overflows."""
    if x.dtype == torch.bfloat16:
        return x
    bits = x.contiguous().view(torch.int32) + 0x8000
    return bits.bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)


def to_bfloat16_truncated(x: Tensor) -> Tensor:
    """fp32 → bfloat16, the low 16 bits dropped."""
    if x.dtype == torch.bfloat16:
        return x
    return (x.contiguous().view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)


def truncate_fraction(x: Tensor, bits: int) -> Tensor:
    """Only the first `bits` bits of the fraction survive; same dtype. 10 bits are tf32, 6 and 4 the fidelity cuts."""
    if x.dtype == torch.bfloat16:
        return x if bits >= 7 else (x.contiguous().view(torch.int16) & -(1 << (7 - bits))).view(torch.bfloat16)
    return (x.contiguous().view(torch.int32) & -(1 << (23 - bits))).view(torch.float32)


def flush_denormals(x: Tensor) -> Tensor:
    """Denormals and −0 become +0, as in every arithmetic unit of the chip."""
    largest = LARGEST_DENORMAL_BFLOAT16 if x.dtype == torch.bfloat16 else SMALLEST_NORMAL - 2.0**-149
    return torch.nn.functional.hardshrink(x, largest)


def pack_bfloat16(x: Tensor) -> Tensor:
    """The packer's bfloat16: ties away from zero, what stays below the normal range to +0, NaN to infinity."""
    if x.dtype == torch.bfloat16:
        return _nan_to_infinity_(flush_denormals(x))
    normal = _nan_to_infinity_(torch.nn.functional.hardshrink(x, _LARGEST_FLUSHED))
    return normal.view(torch.int32).add_(0x8000).bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)


def _nan_to_infinity_(x: Tensor) -> Tensor:
    return x.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
