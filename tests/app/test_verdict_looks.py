# SPDX-License-Identifier: Apache-2.0
"""Verdicts can be told apart by everybody, on light and on dark ground."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tttdebug.reporting.palette import VERDICTS, style_of
from tttdebug.tracking.record import FAILING_VERDICTS

GROUNDS = ("#ffffff", "#171614")
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ (0.2126, 0.7152, 0.0722))


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB, white D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    x, y, z = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("ground", GROUNDS)
def test_every_verdict_stands_out_from_the_ground(verdict: str, ground: str) -> None:
    light, dark = sorted((luminance(VERDICTS[verdict].colour), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("sight", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["full", "protanopia", "deuteranopia"])
def test_passing_and_failing_differ_in_colour_for_everybody(sight: np.ndarray) -> None:
    for passing in ("ok", "floor"):
        for failing in FAILING_VERDICTS:
            pair = [lab(sight @ linear(VERDICTS[verdict].colour)) for verdict in (passing, failing)]
            assert np.linalg.norm(pair[0] - pair[1]) > 20, (passing, failing)


def test_no_two_verdicts_share_shape_or_symbol() -> None:
    for one, other in combinations(VERDICTS.values(), 2):
        assert one.shape != other.shape
        assert one.symbol != other.symbol


def test_a_skipped_boundary_looks_skipped_whatever_the_reason() -> None:
    assert style_of("skipped:no such module") is VERDICTS["skipped"]
