# SPDX-License-Identifier: Apache-2.0
"""Figures of a run as image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.reporting.palette import GREY, PRIMARY, VERDICTS, style_of
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.run import ISOLATED

if TYPE_CHECKING:
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

_BRANCHES = ("self_attn", "mlp", "layer_out")
DEPTH = "error_over_depth.png"


def save_depth_figure(run: Run) -> Path:
    """`figures/error_over_depth.png` in the run's folder: rel_l2 of the prefill over depth, floor beside it.

    A panel a kind of module; what the floor explains is shaded, and a boundary above it stands out by colour and shape.
    Of an explained run the isolated error, of each module alone, is drawn as small rings.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_BRANCHES), sharey=True, squeeze=False)[0]
    for panel, kind in zip(panels, _BRANCHES, strict=True):
        records = [
            record
            for record in run.records
            if record.phase == "prefill" and record.user == 0 and kind_of(record.boundary) == kind
            if record.boundary == first_call_of(record.boundary)
        ]
        layers = range(len(records))
        floors = [record.floor_rel_l2 for record in records]
        explained = [record.explained_rel_l2 for record in records]
        panel.fill_between(layers, floors, explained, color=PRIMARY, alpha=0.15, label="explained by the formats")
        panel.plot(layers, floors, color=PRIMARY, linewidth=1, label="caused by the formats")
        alone = {record.boundary: record.rel_l2 for record in run.experiments if _is_prefill_alone(record)}
        own = [(layer, alone[record.boundary]) for layer, record in enumerate(records) if record.boundary in alone]
        if own:
            panel.plot(*zip(*own, strict=True), "o--", color=GREY, mfc="none", ms=4, lw=0.8, label="alone (isolated)")
        for verdict in dict.fromkeys(record.verdict for record in records):
            at = [layer for layer, record in enumerate(records) if record.verdict == verdict]
            panel.scatter(
                at,
                [records[layer].rel_l2 for layer in at],
                color=style_of(verdict).colour,
                marker=_MARKERS[list(VERDICTS).index(verdict)],
                s=22,
                label=verdict,
                zorder=3,
            )
        panel.set(title=kind, xlabel="layer", yscale="log")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("rel_l2 against the reference")
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    model = run.manifest.model
    facts = (model["name"], run.manifest.precision, f"{run.manifest.device['engine']} engine")
    figure.suptitle(", ".join(filter(None, facts)), fontsize=11)
    path = run.path / "figures" / DEPTH
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _is_prefill_alone(record: Record) -> bool:
    return record.mode == ISOLATED and record.phase == "prefill" and record.user == 0


_MARKERS = ("o", "D", "s", ">", "^", "v", "X", "P", "_")  # in the order of VERDICTS
