# SPDX-License-Identifier: Apache-2.0
"""How near emulated values are to recorded ones: equal bits, units in the last place, rms difference and bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.emulator.formats import BFLOAT16, FLOAT32, BlockFormat, Format


@dataclass(frozen=True)
class Agreement:
    """How near emulated values e are to recorded ones r.

    `equal` and `within_one_ulp` are shares of the elements; `greatest_ulp` counts units in the last place of the
    output's own format, infinite where one side alone is NaN; `rms` is relative to the rms of r; `slope` is
    ⟨r, e⟩ / ⟨r, r⟩.
    """

    elements: int
    equal: float
    within_one_ulp: float
    greatest_ulp: float
    rms: float
    slope: float

    @property
    def bias(self) -> float:
        """By how much e is larger than r on the whole, relative to r."""
        return self.slope - 1


def compare(actual: Tensor, recorded: Tensor, form: Format | None = None) -> Agreement:
    """How near `actual` is to `recorded`, bit by bit: zeros of different signs are not equal, though 0 ulp apart.

    `form` is the output's format, in whose last places the distance is counted; by default that of `recorded`.
    """
    if not recorded.is_floating_point():
        return _compare_integers(actual, recorded)
    if form is None:
        form = BFLOAT16 if recorded.dtype == torch.bfloat16 else FLOAT32
    a, r = (x.to(torch.float32).contiguous() for x in (actual, recorded))
    equal = a.view(torch.int32) == r.view(torch.int32)
    ulps = torch.where(equal, 0.0, _ulps(a, r, form))
    finite = a.isfinite() & r.isfinite()
    a64, r64 = a[finite].double(), r[finite].double()
    power, wrong = r64.square().sum().item(), (a64 - r64).square().sum().item()
    return Agreement(
        r.numel(),
        equal.double().mean().item(),
        (ulps <= 1).double().mean().item(),
        ulps.max().item(),
        math.sqrt(wrong / power) if power else 0.0 if not wrong else math.inf,
        ((a64 * r64).sum().item() / power) if power else 1.0,
    )


def pool(agreements: Sequence[Agreement]) -> Agreement:
    """Those of several outputs together, each element counting once; the rms differences add as powers."""
    elements = sum(a.elements for a in agreements)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(v * a.elements for v, a in zip(values, agreements, strict=True)) / elements

    return Agreement(
        elements,
        mean([a.equal for a in agreements]),
        mean([a.within_one_ulp for a in agreements]),
        max(a.greatest_ulp for a in agreements),
        math.sqrt(mean([a.rms**2 for a in agreements])),
        mean([a.slope for a in agreements]),
    )


def _compare_integers(actual: Tensor, recorded: Tensor) -> Agreement:
    apart = (actual.to(torch.int64) - recorded.to(torch.int64)).abs().double()
    power = recorded.double().square().sum().item()
    rms = math.sqrt(apart.square().sum().item() / power) if power else 0.0 if not apart.any() else math.inf
    slope = (actual.double() * recorded.double()).sum().item() / power if power else 1.0
    near = (apart <= 1).double().mean().item()
    return Agreement(recorded.numel(), (apart == 0).double().mean().item(), near, apart.max().item(), rms, slope)


def _ulps(a: Tensor, r: Tensor, form: Format) -> Tensor:
    """|a − r| in units of the last place of r's format, float64."""
    one_is_nan = a.isnan() ^ r.isnan()
    if isinstance(form, BlockFormat):
        distance = (a.double() - r.double()).abs() / _steps(r, form)
    else:
        width = 16 if form is BFLOAT16 else 0
        distance = ((_ordered(a) >> width) - (_ordered(r) >> width)).abs().double()
    distance = torch.where(a.isnan() & r.isnan(), 0.0, distance)
    return torch.where(one_is_nan, math.inf, distance)


def _steps(r: Tensor, form: BlockFormat) -> Tensor:
    """The distance of neighbouring codes in each element's group, float64; the group's largest element tells it."""
    width = r.shape[-1]
    padded = torch.nn.functional.pad(r, (0, -width % form.group)).unflatten(-1, (-1, form.group))
    _, exponents = torch.frexp(padded.double().abs().amax(-1, keepdim=True).clamp(min=2.0**-126))
    step = torch.ldexp(torch.ones_like(padded, dtype=torch.float64), exponents - form.magnitude_bits)
    return step.flatten(-2)[..., :width]


def _ordered(x: Tensor) -> Tensor:
    """fp32 patterns as integers in the order of their values."""
    bits = x.view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
