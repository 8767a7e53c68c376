# SPDX-License-Identifier: Apache-2.0
"""A run beside others: what differs around the numbers, then what got worse or better, the greatest change first."""

import streamlit as st

from address import COMPARE, MODULE, Address, choose, go, link
from comparisons import compared, read_side, show_across, show_changes, show_differences, show_map, sum_of
from data import current_run, find_runs, runs_folder, stamp_of
from tttdebug.errors import ComparisonError, RunError
from tttdebug.testing.standing import Place
from wording import code, plain, verdict_mark


def open_place(place: Place | None) -> None:
    """What was clicked, in the run that is judged."""
    if place is not None:
        here = Address(run=address.run, boundary=place.boundary, phase=place.phase, mode=place.mode)
        go(MODULE, here if place.phase == "prefill" else here.at(step=0))


def show_beside(baseline: str) -> bool:
    """The run beside an earlier one; whether they can be compared."""
    st.subheader(f"Beside {plain(baseline)}", anchor=False)
    try:
        found = compared(run_name, baseline, (paths[run_name], paths[baseline]), (stamps[run_name], stamps[baseline]))
    except (ComparisonError, RunError) as error:
        st.code(str(error), language=None, wrap_lines=True)
        return False
    st.markdown(f"{verdict_mark('diverged' if found.got_worse else 'ok')} {sum_of(found)}")
    show_differences(found)
    open_place(show_map(found, order))
    open_place(show_changes(found))
    return True


address = Address.current()
run = current_run(address)
run_name = str(address.run)
paths = find_runs(runs_folder())
order = list(dict.fromkeys(run.records.column("boundary").tolist()))
st.header(f"Compare {plain(run_name)}", anchor=False)
missing = [name for name in address.against if name not in paths]
against = [name for name in dict.fromkeys(address.against) if name in paths]
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    choose(
        "Against",
        [name for name in paths if name != run_name or name in against],
        against,
        lambda chosen: {"against": tuple(chosen)},
        st.multiselect,
        placeholder="Pick one or more earlier runs",
        width=520,
    )
    if len(against) == 1:
        turned = address.at(run=against[0], against=(run_name,))
        link(COMPARE, turned, "The other way round", icon=":material/swap_horiz:")
for name in missing:
    st.info(f"The address names {code(name)}, which is no run here.", icon=":material/info:")
if not against:
    st.markdown("Pick the runs to hold this one against: an earlier one, or one with other settings.")
    st.stop()
stamps = {name: stamp_of(paths[name]) for name in (run_name, *against)}
comparable = [name for name in against if show_beside(name)]
if len(comparable) > 1:
    st.subheader("All of them", anchor=False)
    open_place(show_across([read_side(name, paths[name], stamps[name]) for name in (run_name, *comparable)]))
