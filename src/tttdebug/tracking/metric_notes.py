# SPDX-License-Identifier: Apache-2.0
"""Why a metric is undefined, as the note of a comparison says it, and what is judged instead."""

from __future__ import annotations

import math

EMPTY = "empty: nothing was compared"
CONSTANT_REFERENCE = "constant reference: no pcc, judge by rel_l2"
CONSTANT_PORT = "constant port: no pcc"
ZERO_REFERENCE = "zero reference: no slope, norm ratio or cosine"
OVERFLOW = "overflow: squares beyond the range of float64"
ONE_VALUE_PER_TOKEN = "one value per token: no token pcc"


def rel_l2_instead_of(pcc: float) -> float:
    """The rel_l2 that a constant reference is held to where a pcc is asked: the error at which independent noise takes
    a varying reference to that pcc.
    """
    return math.sqrt(max(0.0, 1 / pcc**2 - 1)) if pcc > 0 else math.inf
