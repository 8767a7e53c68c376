# SPDX-License-Identifier: Apache-2.0
"""Massive activations: the few channels whose values are far above the rest, and how much of the error they make.

T tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.analysis.where import energy_of

FAR_ABOVE = 20.0
"""How many times the median channel's greatest magnitude that of an outlier is, at least; of noise it is up to 2."""


@dataclass(frozen=True)
class OutlierChannel:
    """A channel: its greatest magnitude in the reference, at which token, and in units of the median channel's.

    `share_of_error` and `share_of_reference` are its parts of ‖t − r‖² and ‖r‖². `rel_l2` is the error of the channel
    alone, `rel_l2_of_rest` that of all channels that are no outliers.
    """

    channel: int
    token: int
    magnitude: float
    times_median: float
    share_of_error: float
    share_of_reference: float
    rel_l2: float
    rel_l2_of_rest: float

    def __str__(self) -> str:
        return (
            f"channel {self.channel} is {self.times_median:.3g} times the median (at token {self.token}) and makes "
            f"{100 * self.share_of_error:.0f} % of the error: rel_l2 {self.rel_l2:.2g} there, "
            f"{self.rel_l2_of_rest:.2g} in the other channels"
        )


@torch.no_grad()
def outlier_channels(
    reference_TC: Tensor, port_TC: Tensor, *, far_above: float = FAR_ABOVE
) -> tuple[OutlierChannel, ...]:
    """The outliers among the reference's channels, the one that makes most of the error first; none where none is.

    A channel whose greatest magnitude is not finite, or is not 0 where more than half of the channels are, is one too.
    Raises LayoutError where the two are not of one shape [T, C].
    """
    energy = energy_of(reference_TC, port_TC)
    greatest = reference_TC.abs().max(0)
    magnitude_C, median = greatest.values.double(), float(greatest.values.double().nanmedian())
    outlier_C = ~(magnitude_C <= far_above * median)
    rest = ~outlier_C
    error_of_rest, reference_of_rest = (float(side[rest].sum()) for side in (energy.error_C, energy.reference_C))
    found = [
        OutlierChannel(
            channel,
            int(greatest.indices[channel]),
            float(magnitude_C[channel]),
            float(magnitude_C[channel] / median),
            _ratio(float(energy.error_C[channel]), energy.error),
            _ratio(float(energy.reference_C[channel]), energy.reference),
            _ratio(float(energy.error_C[channel]), float(energy.reference_C[channel])) ** 0.5,
            _ratio(error_of_rest, reference_of_rest) ** 0.5,
        )
        for channel in outlier_C.nonzero()[:, 0].tolist()
    ]
    return tuple(sorted(found, key=lambda outlier: -outlier.share_of_error))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else (float("inf") if part else 0.0)
