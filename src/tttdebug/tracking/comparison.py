# SPDX-License-Identifier: Apache-2.0
"""Every metric of a pair of tensors, and whether it holds its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tttdebug.errors import LayoutError
from tttdebug.tracking.core_slope import core_slope
from tttdebug.tracking.metric_notes import (
    CONSTANT_PORT,
    CONSTANT_REFERENCE,
    EMPTY,
    ONE_VALUE_PER_TOKEN,
    OVERFLOW,
    ZERO_REFERENCE,
    rel_l2_instead_of,
)
from tttdebug.tracking.moments import Floats
from tttdebug.tracking.onepass import PairSums, one_pass
from tttdebug.tracking.profile import ErrorProfile, WorstElement, error_histogram
from tttdebug.tracking.ulp import ulp_percentiles

_NO_TOKENS = np.empty(0)


@dataclass(frozen=True)
class Comparison:
    """How a port's tensor t differs from its reference r; `str()` of it is one readable line.

    An undefined value is nan and `note` says why: pcc where a side is constant; slope, norm_ratio and cosine where the
    reference is zero; everything where the tensors are empty.

    No element is left out. A NaN on either side makes every metric of its tensor and of its token nan. So does an
    infinity, but for max_abs_diff, mean_abs, rmse and rel_l2 of a port whose reference is finite: they are inf. The
    bf16-ulp percentiles count a non-finite pair as infinitely far apart (as 0 apart if both sides hold the same
    infinity), so that a few of them make the maximum inf and leave the median finite.
    """

    shape: tuple[int, ...]
    pcc: float = math.nan
    """Pearson's correlation of all elements."""
    max_abs_diff: float = math.nan
    """max |t − r|."""
    max_abs_index: tuple[int, ...] = ()
    """Where that is: the first such element in the order of tokens; NaN counts as greatest."""
    rel_l2: float = math.nan
    """‖t − r‖ / ‖r‖; against a zero reference 0 for a zero port, else inf."""
    slope: float = math.nan
    """⟨r, t⟩ / ⟨r, r⟩: 2 where the port is twice the reference."""
    norm_ratio: float = math.nan
    """‖t‖ / ‖r‖."""
    cosine: float = math.nan
    """⟨r, t⟩ / (‖r‖ ‖t‖)."""
    mean_abs: float = math.nan
    """Mean of |t − r|."""
    rmse: float = math.nan
    """Root of the mean of (t − r)²."""
    ulp_p50: float = math.nan
    """Median distance in bfloat16 steps, both sides rounded to bfloat16 (float64 by way of float32)."""
    ulp_p99: float = math.nan
    """The distance in bfloat16 steps that 99 % of the elements do not exceed."""
    ulp_max: float = math.nan
    """The greatest distance in bfloat16 steps."""
    worst_token: int = -1
    """The token of lowest pcc, −1 where there are no tokens. One whose pcc is nan though its reference varies is worse
    than any number; one whose reference is constant is the worst only where all are: then rel_l2 decides."""
    worst_token_pcc: float = math.nan
    """Pearson's correlation over the elements of that token."""
    last_token_pcc: float = math.nan
    """Pearson's correlation over the elements of the last token, the one that prefill predicts from."""
    reference_norm: float = math.nan
    """‖r‖."""
    constant_reference: bool = False
    """Whether all elements of the reference are equal, to within the 1e-14 that their mean is rounded to."""
    nonfinite_reference: int = 0
    """How many elements of the reference are inf or NaN."""
    nonfinite_port: int = 0
    """How many elements of the port are inf or NaN."""
    nonfinite_masks_agree: bool = True
    """Whether the same elements are non-finite on both sides."""
    differing: int = 0
    """How many elements differ at all; NaN differs from everything."""
    note: str = ""
    """Why a value is nan, or that non-finite values were met."""
    profile: ErrorProfile = field(default_factory=ErrorProfile, repr=False)
    """Where the error sits: for plots."""

    def passed(self, **limits: float | None) -> bool:
        """Whether `failures` with these limits finds none, as in `passed(pcc=0.99, slope=0.02)`."""
        return not self.failures(**limits)

    def failures(
        self,
        *,
        pcc: float | None = None,
        rel_l2: float | None = None,
        slope: float | None = None,
        max_abs_diff: float | None = None,
        worst_token_pcc: float | None = None,
        last_token_pcc: float | None = None,
        ulp_p99: float | None = None,
    ) -> tuple[str, ...]:
        """A sentence for every limit that is missed; none when the comparison passes.

        pcc, worst_token_pcc and last_token_pcc are lower bounds; rel_l2, max_abs_diff and ulp_p99 are upper bounds;
        slope bounds |slope − 1|. A value that is nan misses its limit. Whatever the limits, an empty comparison fails,
        and so does one with an element that is finite on one side only.

        A constant reference has no pcc: its pcc limit p is applied as rel_l2 ≤ √(1/p² − 1), the error at which
        independent noise takes a varying reference to that pcc. A zero reference has no slope either: its slope limit
        is applied as rel_l2 ≤ 0.
        """
        missed = []
        if 0 in self.shape:
            missed.append(EMPTY)
        if not self.nonfinite_masks_agree:
            missed.append(f"{_nonfinite(self.nonfinite_port, self.nonfinite_reference)}, not at the same elements")
        if self.constant_reference and pcc is not None:
            bound = rel_l2_instead_of(pcc)
            rel_l2, pcc = min(bound, math.inf if rel_l2 is None else rel_l2), None
        if self.reference_norm == 0 and slope is not None:
            rel_l2, slope = 0.0, None
        at_least = {"pcc": pcc, "worst_token_pcc": worst_token_pcc, "last_token_pcc": last_token_pcc}
        at_most = {"rel_l2": rel_l2, "max_abs_diff": max_abs_diff, "ulp_p99": ulp_p99}
        for name, limit in at_least.items():
            value = getattr(self, name)
            if limit is not None and not value >= limit:
                missed.append(f"{name} {value:.6g} {'<' if value < limit else 'is not ≥'} {limit:g}")
        for name, limit in at_most.items():
            value = getattr(self, name)
            if limit is not None and not value <= limit:
                missed.append(f"{name} {value:.4g} {'>' if value > limit else 'is not ≤'} {limit:g}")
        if slope is not None and not abs(self.slope - 1) <= slope:
            missed.append(f"slope {self.slope:.4g} is not within 1 ± {slope:g}")
        return tuple(missed)

    @property
    def core_slope(self) -> float:
        """The slope without the 16 elements of greatest error.

        Where massive activations make nearly all of ‖r‖, the slope is the error of one element; a scale that is wrong
        shows in both.
        """
        return core_slope(self.slope, self.reference_norm, self.profile.worst)

    def __str__(self) -> str:
        parts = [
            f"pcc {self.pcc:.6g}, rel_l2 {self.rel_l2:.3g}, slope {self.slope:.4g}",
            f"max |t−r| {self.max_abs_diff:.3g} at {list(self.max_abs_index)}",
            f"bf16 ulp p99 {self.ulp_p99:g}",
        ]
        if self.worst_token >= 0:
            parts.append(f"worst token {self.worst_token} (pcc {self.worst_token_pcc:.4g})")
        if self.note:
            parts.append(self.note)
        return f"{list(self.shape)}: " + "; ".join(parts)


def _nonfinite(port: int, reference: int) -> str:
    return f"non-finite: {port} in the port, {reference} in the reference"


@torch.no_grad()
def compare(reference: Tensor, port: Tensor, *, token_dim: int | None = -2) -> Comparison:
    """Every metric of `port` against `reference`, from one pass over both.

    The tensors have one shape, and any real dtypes, strides and devices. `token_dim` is the dim that counts tokens, all
    other dims together are a token's values; with None, or fewer than two dims, there are no tokens. Sums are taken in
    float64 about the mean of each token: outliers cost no digits, and an offset of 1e7 standard deviations leaves ten
    digits of the pcc. Values of float64 must stay between 1e-150 and 1e150 for their squares to exist.

    Raises LayoutError where the shapes differ, a tensor is complex, or `token_dim` is not a dim of them.
    """
    _check_layout(reference, port, token_dim)
    shape = tuple(reference.shape)
    if reference.numel() == 0:
        return Comparison(shape, note=EMPTY)
    if token_dim is None or len(shape) < 2:
        token_dim, reference_T, port_T = None, reference[None], port[None]
    else:
        reference_T, port_T = reference.movedim(token_dim, 0), port.movedim(token_dim, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # nan and inf are answers here
        sums = one_pass(reference_T, port_T)
        indices = _indices(sums.worst_positions, tuple(reference_T.shape), token_dim)
        return _comparison(sums, _elements(indices, reference, port), shape, has_tokens=token_dim is not None)


def _check_layout(reference: Tensor, port: Tensor, token_dim: int | None) -> None:
    if reference.shape != port.shape:
        raise LayoutError(
            f"cannot compare a reference of shape {list(reference.shape)} with a port of shape {list(port.shape)}; "
            "bring the port's output into the reference's shape first, nothing is broadcast or truncated here"
        )
    if reference.is_complex() or port.is_complex():
        raise LayoutError("cannot compare complex tensors; give torch.view_as_real of both")
    dims = reference.ndim
    if token_dim is not None and dims >= 2 and not -dims <= token_dim < dims:
        raise LayoutError(
            f"token_dim {token_dim} is not a dim of shape {list(reference.shape)}; give −{dims} to {dims - 1}"
        )


def _indices(positions: np.ndarray, shape_T: tuple[int, ...], token_dim: int | None) -> np.ndarray:
    """Positions in the tensor as it was read, token dim first, as indices of the tensor as given: (positions, dims)."""
    coordinates: list[np.ndarray] = list(np.unravel_index(positions, shape_T))
    token = coordinates.pop(0)
    if token_dim is not None:
        coordinates.insert(token_dim % len(shape_T), token)
    indices: np.ndarray = np.array(coordinates, dtype=np.int64).T
    return indices.reshape(len(positions), len(coordinates))


def _elements(indices: np.ndarray, reference: Tensor, port: Tensor) -> tuple[WorstElement, ...]:
    """What both sides hold at each index, in its order."""
    where = tuple(torch.from_numpy(indices).T) if reference.ndim else ...
    values = (side[where].double().reshape(-1).tolist() for side in (reference, port))
    return tuple(WorstElement(tuple(index), r, t) for index, r, t in zip(indices.tolist(), *values, strict=True))


def _comparison(
    sums: PairSums, worst: tuple[WorstElement, ...], shape: tuple[int, ...], has_tokens: bool
) -> Comparison:
    rows = sums.tokens.with_whole()
    pcc, rel_l2, constant_r, constant_t = rows.pcc, rows.rel_l2, rows.constant_r, rows.constant_t
    token_pcc, token_rel_l2 = (pcc[:-1], rel_l2[:-1]) if has_tokens else (_NO_TOKENS, _NO_TOKENS)
    count, norm_r, norm_t, inner, error_norm, error_sum = (
        float(values[-1])
        for values in (rows.count, rows.norm_r, rows.norm_t, rows.inner, rows.error_norm, rows.error_sum)
    )
    worst_token = _worst_token(token_pcc, token_rel_l2, constant_r[:-1]) if has_tokens else -1
    ulp_p50, ulp_p99, ulp_max = ulp_percentiles(sums.ulp_counts, 50, 99, 100)
    edges, counts = error_histogram(sums.octave_counts)
    reasons = (
        (sums.nonfinite_port + sums.nonfinite_reference > 0, _nonfinite(sums.nonfinite_port, sums.nonfinite_reference)),
        (not math.isfinite(norm_r + norm_t) and not sums.nonfinite_port + sums.nonfinite_reference, OVERFLOW),
        (constant_r[-1], CONSTANT_REFERENCE),
        (constant_t[-1] and not constant_r[-1], CONSTANT_PORT),
        (norm_r == 0, ZERO_REFERENCE),
        (has_tokens and count == len(token_pcc), ONE_VALUE_PER_TOKEN),
    )
    return Comparison(
        shape=shape,
        pcc=float(pcc[-1]),
        max_abs_diff=abs(worst[0].port - worst[0].reference),
        max_abs_index=worst[0].at,
        rel_l2=float(rel_l2[-1]),
        slope=inner / norm_r**2 if norm_r else math.nan,
        norm_ratio=norm_t / norm_r if norm_r else math.nan,
        cosine=inner / (norm_r * norm_t) if norm_r and norm_t else math.nan,
        mean_abs=error_sum / count,
        rmse=error_norm / math.sqrt(count),
        ulp_p50=ulp_p50,
        ulp_p99=ulp_p99,
        ulp_max=ulp_max,
        worst_token=worst_token,
        worst_token_pcc=float(token_pcc[worst_token]) if has_tokens else math.nan,
        last_token_pcc=float(token_pcc[-1]) if has_tokens else math.nan,
        reference_norm=norm_r,
        constant_reference=bool(constant_r[-1]),
        nonfinite_reference=sums.nonfinite_reference,
        nonfinite_port=sums.nonfinite_port,
        nonfinite_masks_agree=sums.nonfinite_masks_agree,
        differing=int(sums.octave_counts[1:].sum()),
        note="; ".join(reason for holds, reason in reasons if holds),
        profile=ErrorProfile(
            token_rel_l2=tuple(token_rel_l2.tolist()),
            token_pcc=tuple(token_pcc.tolist()),
            error_edges=edges,
            error_counts=counts,
            worst=tuple(element for element in worst if element.port != element.reference),
        ),
    )


def _worst_token(pcc_T: Floats, rel_l2_T: Floats, constant_r_T: NDArray[np.bool_]) -> int:
    """See `Comparison.worst_token`; of equals the one of greater rel_l2, then the first."""
    badness = np.where(np.isnan(pcc_T), np.inf, -pcc_T)
    badness[constant_r_T] = -np.inf
    return int(np.lexsort((-np.nan_to_num(rel_l2_T, nan=np.inf), -badness))[0])
