# SPDX-License-Identifier: Apache-2.0
"""Every chart of every page is what Vega-Lite's schema allows, which the app itself takes no time to check."""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt
import pytest
from cache_runs import CACHES
from sample_runs import BROKEN, FAULTY, SOUND
from shown_pages import Shown

CHART = "vega_lite_chart"


@pytest.mark.parametrize(
    ("page", "address", "charts"),
    [
        ("overview", {"run": BROKEN}, 5),
        ("overview", {"run": BROKEN, "by": "distance"}, 5),
        ("layer", {"run": BROKEN, "boundary": FAULTY}, 1),
        ("module", {"run": BROKEN, "boundary": FAULTY}, 9),
        ("module", {"run": BROKEN, "boundary": FAULTY, "element": "37,70"}, 9),
        ("cache", {"run": CACHES}, 4),
        ("tokens", {"run": BROKEN}, 2),
        ("precision", {"run": BROKEN}, 3),
        ("compare", {"run": BROKEN, "against": SOUND}, 1),
    ],
)
def test_the_charts_of_a_page(shown: Shown, runs: Path, page: str, address: dict[str, str], charts: int) -> None:
    found = [json.loads(element.proto.spec) for element in shown(runs, page, **address).get(CHART)]
    assert len(found) >= charts
    for spec in found:
        (alt.LayerChart if "layer" in spec else alt.Chart).from_dict(spec)  # raises where the schema does not hold
