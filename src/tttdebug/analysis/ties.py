# SPDX-License-Identifier: Apache-2.0
"""A margin between two scores against the noise in them: what makes a choice that falls the other way a tie."""

from __future__ import annotations

import math

from tttdebug.tracking.record import Record

TIE = 3.0
"""A margin of up to so many standard deviations of the noise in it is a tie: √2 times that of one score."""


def noise_of_logits(record: Record) -> float:
    """The standard deviation of a logit's error that the floor explains; without a floor, of the error itself."""
    return record.rmse / record.above_floor if record.above_floor > 1 else record.rmse


def in_noise(margin: float, noise: float) -> float:
    """A margin in standard deviations of the noise in a difference of two scores; nan where no noise is known."""
    if math.isnan(noise):
        return math.nan
    return margin / (math.sqrt(2) * noise) if noise else (math.inf if margin else 0.0)
