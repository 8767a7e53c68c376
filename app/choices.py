# SPDX-License-Identifier: Apache-2.0
"""What the reader chooses: the call of the model that is looked at, and the measure that charts show."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

from address import Address, choose
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import Run
from wording import call_name

Value = TypeVar("Value", bound=Hashable)
MEASURES = {"rel_l2": "rel L2", "distance": "1 − PCC"}


@dataclass(frozen=True)
class Call:
    """One call of the model, for one user, compared in one mode."""

    phase: str
    step: int
    user: int
    mode: str

    @classmethod
    def of(cls, record: Record) -> Call:
        return cls(record.phase, record.step, record.user, record.mode)

    def key(self, boundary: str) -> Key:
        return Key(boundary, self.phase, self.step, self.user, self.mode)


def choose_call(run: Run, address: Address) -> Call:
    """Select boxes for what there is more than one of; the first divergence's call unless the address names another.

    Says so when the run lacks what the address names. The run holds at least one record.
    """
    default = Call.of(run.first_divergence() or run.records[0])
    calls = _distinct((record.phase, record.step) for record in run.records)
    wanted = (address.phase or default.phase, _number(address.step, default.step if address.phase is None else 0))
    call = _existing(wanted, calls, (default.phase, default.step), call_name(*wanted))
    of_call = [record for record in run.records if (record.phase, record.step) == call]
    users = _distinct(record.user for record in of_call)
    user = _existing(_number(address.user, default.user), users, users[0], f"user {address.user}")
    modes = _distinct(record.mode for record in of_call)
    mode = _existing(address.mode or default.mode, modes, modes[0], f"{address.mode} error")
    if len(calls) > 1:
        choose(
            "Call",
            calls,
            call,
            lambda chosen: {"phase": chosen[0], "step": chosen[1]},
            format_func=lambda chosen: call_name(*chosen),
            width=200,
        )
    if len(users) > 1:
        choose("User", users, user, lambda chosen: {"user": chosen}, width=110)
    if len(modes) > 1:
        choose("Error", modes, mode, lambda chosen: {"mode": chosen}, width=170)
    return Call(*call, user, mode)


def choose_measure(address: Address) -> str:
    """What charts of the error show: "rel_l2", or "distance" (1 − PCC)."""
    return choose(
        "Shown",
        list(MEASURES),
        address.by if address.by in MEASURES else "rel_l2",
        lambda chosen: {"by": chosen},
        st.radio,
        format_func=MEASURES.__getitem__,
        horizontal=True,
    )


def records_of(run: Run, call: Call) -> list[Record]:
    """The records of one call, in the order of execution."""
    return [record for record in run.records if Call.of(record) == call]


def _distinct(values: Iterable[Value]) -> list[Value]:
    return list(dict.fromkeys(values))


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default


def _existing(wanted: Value, options: list[Value], fallback: Value, name: str) -> Value:
    if wanted in options:
        return wanted
    st.warning(
        "The address names a part that this run does not have. Shown instead is what it has.", icon=":material/info:"
    )
    return fallback
