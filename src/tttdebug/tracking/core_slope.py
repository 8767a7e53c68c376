# SPDX-License-Identifier: Apache-2.0
"""The slope of a comparison without its outliers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def core_slope(slope: float, reference_norm: float, worst: Iterable[Sequence[Any]]) -> float:
    """The slope ⟨r, t⟩ / ⟨r, r⟩ of all elements but `worst`, each (index, reference, port); nan where none are left."""
    squares, inner = reference_norm**2, slope * reference_norm**2
    for _, reference, port in worst:
        squares, inner = squares - reference * reference, inner - reference * port
    return inner / squares if squares > 0 else math.nan
