# SPDX-License-Identifier: Apache-2.0
"""What all charts share: colours and shapes of verdicts, and the log scale of errors."""

from __future__ import annotations

import math
from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd

from tttdebug.reporting.palette import VERDICTS

PICK = "pick"
"""The name of a chart's selection: what was clicked."""
CELLS = "cells"
"""The name of a layer of cells without gaps; style.css keeps the seams between them from showing."""
SMALLEST_SHOWN = 1e-8
"""Errors below this, zero among them, are drawn here: a log scale has no zero."""
PADDING = {"left": 0, "top": 4, "right": 4, "bottom": 4}
NAME_WIDTH = 150
"""Pixels left of charts over the layers, so that a layer stands at the same place in each of them."""
VERDICT_COLOUR = alt.Scale(domain=list(VERDICTS), range=[style.colour for style in VERDICTS.values()])
VERDICT_SHAPE = alt.Scale(domain=list(VERDICTS), range=[style.shape for style in VERDICTS.values()])
_ROOM = 2.0  # factor between the outermost error and the end of the scale
LABEL = "replace(format(datum.value, '~e'), '+', '')"


def domain_of(errors: Iterable[pd.Series]) -> tuple[float, float]:
    """The ends of a log scale that holds all finite errors."""
    values = pd.concat(list(errors)).to_numpy(dtype=float)
    values = values[np.isfinite(values)].clip(min=SMALLEST_SHOWN)
    if not len(values):
        return 1e-3, 1.0
    return float(values.min()) / _ROOM, float(values.max()) * _ROOM


def log_scale(domain: tuple[float, float]) -> alt.Scale:
    return alt.Scale(type="log", domain=list(domain), nice=False)


def log_axis(domain: tuple[float, float], labels: int = 4, **look: object) -> alt.Axis:
    """An axis labelled 1e-3, 1e-2, …; at steps of 1, 2, 5 where there are too few powers of ten."""
    return alt.Axis(values=round_values(domain, labels), labelExpr=LABEL, **look)


def round_values(domain: tuple[float, float], at_most: int) -> list[float]:
    """Round numbers within a log scale, evenly spread, as few as asked for."""
    low, high = domain
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(map(float, range(1, 10)))):
        inside = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        inside = [value for value in inside if low <= value <= high]
        if len(inside) >= 2:
            break
    return inside[:: math.ceil(len(inside) / at_most)]


def drawable(errors: pd.Series, domain: tuple[float, float]) -> pd.Series:
    """Errors moved into the scale: tiny ones to its bottom, non-finite and missing ones to its top."""
    return errors.clip(*domain).fillna(domain[1])


def colour_if(test: str, colour: alt.Color | str, otherwise: str) -> alt.ColorValue:
    """A colour where `test` holds of a mark's data, else another. `alt.condition` finds out its class by trial."""
    chosen = {"value": colour} if isinstance(colour, str) else colour.to_dict()
    return alt.ColorValue(otherwise, condition={"test": test} | chosen)
