# SPDX-License-Identifier: Apache-2.0
"""Number formats and math fidelities, layer by layer: what they cost, whether that explains the error, what to set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from address import MODULE, Address, go
from charts.depth import depth_domain, depth_panels
from charts.settings_map import settings_map
from choices import choose_call
from data import Stamp, current_run, default_boundary, explanation_of, open_run, records_of_user, stamp_of
from data import alone as isolated_of
from drawing import Spec, pick_from, spec_of
from looks import colours
from number_formats import (
    FORMATS,
    KERNELS,
    LOW_SUMS,
    SHORT,
    SHORT_FIDELITY,
    Setting,
    costs,
    described,
    layer_of,
    proposed,
    settings_cells,
)
from places import place_of
from tttdebug.errors import SpecError
from tttdebug.modules.decisions import MEANING_OF_DTYPE
from tttdebug.modules.decoder_config import decoder_config_text
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.reporting.wording import counted
from tttdebug.tracking.opened_run import Call, SavedRecords
from tttdebug.tracking.record import FAILING_VERDICTS
from tttdebug.tracking.run import ACCUMULATED, ISOLATED
from wording import code, plain, verdict_mark

COSTS = {
    "predicted": st.column_config.NumberColumn(
        "predicted", format="%.3g", help="the floor, in rel L2: what the number formats must cause; median"
    ),
    "alone": st.column_config.NumberColumn(
        "measured, alone", format="%.3g", help="rel L2 of the module fed with the reference's input; median"
    ),
    "in the run": st.column_config.NumberColumn(
        "measured, in the run", format="%.3g", help="rel L2 with the errors that came in; median"
    ),
    "× floor": st.column_config.NumberColumn("its × floor", format="%.1f"),
}
FIDELITIES = {
    "LoFi": "one pass of the multiplier: weights count with 5 significand bits",
    "HiFi2": "two passes: every bit of a bfloat8_b weight",
    "HiFi3": "three passes",
    "HiFi4": "four passes: every bit of bfloat16 operands",
}


def headline(records: SavedRecords, alone: SavedRecords | None) -> str:
    """Whether the number formats explain the error of one call, as Markdown."""
    judged = records if alone is None else alone
    verdicts, names = judged.column("verdict"), judged.column("boundary")
    beyond = [name for name, verdict in zip(names, verdicts, strict=True) if verdict in FAILING_VERDICTS]
    if not beyond:
        return f"{verdict_mark('ok')} The number formats explain the error of all {counted(len(judged), 'module')}"
    first = plain(beyond[0])
    others = "" if len(beyond) == 1 else f" and {counted(len(beyond) - 1, 'other')}"
    return f"{verdict_mark('injected')} The number formats do not explain the error of {first}{others}"


def open_picked(picked: Mapping[str, object] | None) -> None:
    """A click in a chart leads to the module."""
    if picked is not None:
        go(MODULE, Address.current().at(boundary=picked["boundary"]))


def show_map(
    title: str, settings: Sequence[Setting], grades: Mapping[str, str], config: HardwareConfig, before: HardwareConfig
) -> None:
    cells = settings_cells(settings, boundaries, config, before)
    if before is not config:
        cells = cells[cells["setting"].isin(cells.loc[cells["changed"], "setting"])]
    if cells.empty:
        return
    st.subheader(title, anchor=False)
    chart = settings_map(cells, places, grades, colours().ink)
    open_picked(pick_from(spec_of(chart), f"map {title}"))


def show_proposed(config: HardwareConfig) -> None:
    """What the findings would set: the map with it, and the file."""
    changed, proposals = proposed(explanation_of(run), config)
    if not proposals:
        return
    st.subheader("What the findings would set", anchor=False)
    for proposal in proposals:
        said = ", as the run declares it: the port does not keep to it" if proposal.declared else ""
        st.markdown(f"{plain(proposal.boundary)}: {', '.join(map(code, proposal.groups))}{said}.")
    if changed != config:
        show_map("Number formats with it", FORMATS, SHORT, changed, config)
        show_map("Math fidelity with it", KERNELS, SHORT_FIDELITY, changed, config)
        offer_file(changed, "decoder_config.json with it")


def offer_file(config: HardwareConfig, label: str) -> None:
    """A button that saves a config as a decoder_config.json, or why there is none."""
    try:
        text = decoder_config_text(config, number_of_layers())
    except SpecError as error:
        st.caption("There is no decoder_config.json for these settings:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    st.download_button(label, text, "decoder_config.json", "application/json", icon=":material/download:")


def number_of_layers() -> int:
    """Of the model; of what was compared where the run does not say."""
    layers = run.manifest.model.get("layers")
    compared = (layer_of(boundary) for boundary in boundaries)
    return layers if isinstance(layers, int) else 1 + max((each for each in compared if each is not None), default=-1)


@st.cache_data(max_entries=16, show_spinner=False)
def effect_specs(path: Path, stamp: Stamp, call: Call) -> dict[str, Spec]:
    """A panel over the layers for each kind of module in one call."""
    opened = open_run(path)
    of_run, own = (records_of_user(opened, call.user, mode) for mode in (ACCUMULATED, ISOLATED))
    scale = depth_domain(of_run, own, "rel_l2")
    return depth_panels(list(opened.by_call[call]), "rel_l2", scale, isolated_of(opened, call))


def show_effect(records: SavedRecords, alone: SavedRecords | None) -> None:
    """Floor, error alone and error in the run: of every layer as panels, of every kind of module as a table."""
    st.subheader("Predicted and measured", anchor=False)
    show_costs(costs(run, records, alone))
    with st.container(gap="xxsmall"):
        for kind, panel in effect_specs(run.path, stamp_of(run.path), call).items():
            open_picked(pick_from(panel, f"effect {kind}"))
    st.caption(
        "Grey: the floor, which the formats must cause. Points: measured in the run. "
        + ("" if alone is None else "Dashed blue: measured alone, with the reference's input.")
    )


def show_costs(table: pd.DataFrame) -> None:
    event = st.dataframe(
        table,
        column_config=COSTS,
        hide_index=True,
        height="content",
        placeholder="not known",
        on_select="rerun",
        selection_mode="single-cell",
        key="costs",
    )
    if event.selection.cells:
        go(MODULE, Address.current().at(boundary=table["worst"].iloc[event.selection.cells[0][0]]))


def declared() -> HardwareConfig | None:
    """What the run says that its port is set to; None, with why, where it does not."""
    if not run.manifest.hardware:
        st.info(
            "This run does not say which formats and fidelities its port has: it was not built by tttdebug. "
            "What was measured stands below.",
            icon=":material/info:",
        )
        return None
    try:
        return HardwareConfig.from_dict(run.manifest.hardware)
    except SpecError as error:
        st.info("The settings in this run are those of another version of tttdebug:", icon=":material/info:")
        st.code(str(error), language=None, wrap_lines=True)
        return None


def show_settings(config: HardwareConfig) -> None:
    """Every setting with what it is of, and what its value means."""
    rows = []
    for setting in (*FORMATS, *KERNELS):
        if not any(map(setting.acts_on, boundaries)):
            continue
        values = {described(getattr(own, setting.field)) for own in (config, *(own for _, own in config.layers))}
        by_layer = len(values) > 1
        rows.append(
            {
                "setting": setting.field,
                "in decoder_config.json": setting.group,
                "of": setting.about,
                "is": "differs by layer" if by_layer else values.pop(),
            }
        )
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content", key="settings")
    meanings = {name: MEANING_OF_DTYPE[name] for name in SHORT} | FIDELITIES
    meanings |= {
        "sums in bfloat16": "the accumulator rounds as it goes; fp32 does not, and halves what it can hold",
        "adds up in L1": "partial sums of long products are added in memory",
        "approximate functions": "exponentials and the like are less exact, and faster",
    }
    rows = [{"value": name, "means": meaning} for name, meaning in meanings.items()]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content", key="meanings")


address = Address.current()
run = current_run(address)
default_boundary(run, address)  # says so where there is no record
title = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    call = choose_call(run, address, with_mode=False)
records = run.by_call[call]
alone = run.by_call.get(call._replace(mode=ISOLATED))
boundaries = records.column("boundary").tolist()
places = list(dict.fromkeys(map(place_of, boundaries)))
with title:
    st.header(headline(records, alone), anchor=False)
    if alone is None:
        st.caption("Nobody explained this run yet: its errors hold what came in from earlier modules.")

config = declared()
if config is not None:
    show_map("Number formats", FORMATS, SHORT, config, config)
    show_map("Math fidelity", KERNELS, SHORT_FIDELITY, config, config)
    st.caption(
        "Formats by their bits (bfloat4_b, bfloat8_b, bfloat16), fidelities by their passes (LoFi, HiFi2, HiFi4); "
        f"the coarser the stronger. {LOW_SUMS}: sums in bfloat16. Click a cell to open its module."
    )
    offer_file(config, "decoder_config.json")
    show_proposed(config)
show_effect(records, alone)
if config is not None:
    with st.expander("What each setting is"):
        show_settings(config)
