# SPDX-License-Identifier: Apache-2.0
"""First and second moments of pairs of rows, pooled over rows and turned into metrics."""

# R rows, G groups of neighbouring rows

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONSTANT_WITHIN = 1e-14
"""A row is constant when its standard deviation is below this share of its mean, the rounding error of that mean."""


@dataclass(frozen=True)
class Moments:
    """Moments of rows of (reference r, port t), each an array of shape (R,); ‖x‖ is the root of the sum of squares."""

    count: Floats
    mean_r: Floats
    mean_t: Floats
    spread_r: Floats  # ‖r − mean r‖
    spread_t: Floats  # ‖t − mean t‖
    product: Floats  # ⟨r − mean r, t − mean t⟩
    error_norm: Floats  # ‖t − r‖
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
        rows_of_G = np.diff(starts_G, append=len(self.count))
        shift_r = self.mean_r - np.repeat(mean_r_G, rows_of_G)
        shift_t = self.mean_t - np.repeat(mean_t_G, rows_of_G)
        return Moments(
            count=count_G,
            mean_r=mean_r_G,
            mean_t=mean_t_G,
            spread_r=np.sqrt(total(self.spread_r**2 + self.count * shift_r**2)),
            spread_t=np.sqrt(total(self.spread_t**2 + self.count * shift_t**2)),
            product=total(self.product + self.count * shift_r * shift_t),
            error_norm=np.sqrt(total(self.error_norm**2)),
            error_sum=total(self.error_sum),
        )

    def with_whole(self) -> Moments:
        """The same rows and, as the last one, all of them pooled."""
        whole = self.pooled(np.zeros(1, dtype=np.int64))
        return Moments(*(np.append(getattr(self, f.name), getattr(whole, f.name)) for f in fields(self)))

    @property
    def norm_r(self) -> Floats:
        """‖r‖."""
        return np.sqrt(self.spread_r**2 + self.count * self.mean_r**2)

    @property
    def norm_t(self) -> Floats:
        """‖t‖."""
        return np.sqrt(self.spread_t**2 + self.count * self.mean_t**2)

    @property
    def inner(self) -> Floats:
        """⟨r, t⟩."""
        return self.product + self.count * self.mean_r * self.mean_t

    @property
    def constant_r(self) -> NDArray[np.bool_]:
        """Whether all reference values of a row are equal."""
        return self.spread_r <= CONSTANT_WITHIN * np.sqrt(self.count) * np.abs(self.mean_r)

    @property
    def constant_t(self) -> NDArray[np.bool_]:
        """Whether all port values of a row are equal."""
        return self.spread_t <= CONSTANT_WITHIN * np.sqrt(self.count) * np.abs(self.mean_t)

    @property
    def pcc(self) -> Floats:
        """Pearson's correlation, within [−1, 1]; nan where either side is constant."""
        pcc_R = np.clip(self.product / (self.spread_r * self.spread_t), -1.0, 1.0)
        return np.where(self.constant_r | self.constant_t, np.nan, pcc_R)

    @property
    def rel_l2(self) -> Floats:
        """‖t − r‖ / ‖r‖; for a zero reference 0 where the port is zero too, else inf."""
        return np.where(self.error_norm == 0, 0.0, self.error_norm / self.norm_r)
