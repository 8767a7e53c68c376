# SPDX-License-Identifier: Apache-2.0
"""First and second moments of pairs of rows: taken from a chunk, pooled over rows, turned into metrics."""

# R rows (a token, or a part of one), V values of a row, G groups of rows

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

CONSTANT_WITHIN = 1e-14
"""A row is constant when its standard deviation is below this share of its mean, the rounding error of that mean."""


def row_moments(wide_3RV: Tensor, mean_2R1: Tensor) -> Tensor:
    """The moments of every row, float64 of shape (7, R), in the order of `Moments` without its count.

    `wide` holds reference, port and port − reference in float64, `mean` the means of the first two. Both are centred in
    place: deviations are taken from the row's own mean, so that a large offset costs no digits.
    """
    error_RV = wide_3RV[2]
    wide_3RV[:2] -= mean_2R1
    squares_3R = torch.linalg.vecdot(wide_3RV, wide_3RV)
    product_R = torch.linalg.vecdot(wide_3RV[0], wide_3RV[1])
    return torch.cat((mean_2R1[..., 0], squares_3R, product_R[None], error_RV.abs_().sum(-1)[None]))


@dataclass(frozen=True)
class Moments:
    """Moments of rows of (reference r, port t), each an array of shape (R,)."""

    count: Floats
    mean_r: Floats
    mean_t: Floats
    deviation_rr: Floats  # Σ(r − mean r)²
    deviation_tt: Floats
    error_squares: Floats  # Σ(t − r)²
    deviation_rt: Floats  # Σ(r − mean r)(t − mean t)
    error_sum: Floats  # Σ|t − r|

    def pooled(self, starts_G: NDArray[np.int64]) -> Moments:
        """One row for each group of neighbouring rows; a group goes from its start to the next one's.

        The parallel form of Chan, Golub and LeVeque (1983): exact in real arithmetic, free of cancellation in float64.
        """
        if len(starts_G) == len(self.count):
            return self

        def total(values_R: Floats) -> Floats:
            return np.add.reduceat(values_R, starts_G)

        count_G = total(self.count)
        mean_r_G = total(self.count * self.mean_r) / count_G
        mean_t_G = total(self.count * self.mean_t) / count_G
        rows_of_G = np.diff(np.append(starts_G, len(self.count)))
        shift_r = self.mean_r - np.repeat(mean_r_G, rows_of_G)
        shift_t = self.mean_t - np.repeat(mean_t_G, rows_of_G)
        return Moments(
            count=count_G,
            mean_r=mean_r_G,
            mean_t=mean_t_G,
            deviation_rr=total(self.deviation_rr + self.count * shift_r**2),
            deviation_tt=total(self.deviation_tt + self.count * shift_t**2),
            error_squares=total(self.error_squares),
            deviation_rt=total(self.deviation_rt + self.count * shift_r * shift_t),
            error_sum=total(self.error_sum),
        )

    @property
    def norm_r(self) -> Floats:
        """‖r‖."""
        return np.sqrt(self.deviation_rr + self.count * self.mean_r**2)

    @property
    def norm_t(self) -> Floats:
        """‖t‖."""
        return np.sqrt(self.deviation_tt + self.count * self.mean_t**2)

    @property
    def inner(self) -> Floats:
        """⟨r, t⟩."""
        return self.deviation_rt + self.count * self.mean_r * self.mean_t

    @property
    def constant_r(self) -> NDArray[np.bool_]:
        """Whether all reference values of a row are equal."""
        return np.sqrt(self.deviation_rr / self.count) <= CONSTANT_WITHIN * np.abs(self.mean_r)

    @property
    def constant_t(self) -> NDArray[np.bool_]:
        """Whether all port values of a row are equal."""
        return np.sqrt(self.deviation_tt / self.count) <= CONSTANT_WITHIN * np.abs(self.mean_t)

    @property
    def pcc(self) -> Floats:
        """Pearson's correlation, within [−1, 1]; nan where either side is constant."""
        pcc_R = np.clip(self.deviation_rt / (np.sqrt(self.deviation_rr) * np.sqrt(self.deviation_tt)), -1.0, 1.0)
        return np.where(self.constant_r | self.constant_t, np.nan, pcc_R)

    @property
    def rel_l2(self) -> Floats:
        """‖t − r‖ / ‖r‖; for a zero reference 0 where the port is zero too, else inf."""
        error_R = np.sqrt(self.error_squares)
        return np.where(error_R == 0, 0.0, error_R / self.norm_r)
