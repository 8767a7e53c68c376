# SPDX-License-Identifier: Apache-2.0
"""What the reader chooses: the call of the model that is looked at, and the measure that charts show."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

import streamlit as st

from address import Address, choose
from tttdebug.tracking.opened_run import Call, OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import ACCUMULATED
from wording import call_name, code

Value = TypeVar("Value", bound=Hashable)
MEASURES = {"rel_l2": "rel L2", "distance": "1 − PCC"}


def choose_call(run: OpenedRun, address: Address, *, with_mode: bool = True) -> Call:
    """Select boxes for what there is more than one of; the first divergence's call unless the address names another.

    Without `with_mode` it is always the accumulated error's. Says so when the run lacks what the address names. The
    run holds at least one record.
    """
    default = Call.of(run.first_divergence() or run.records[0])
    calls = _distinct((call.phase, call.step) for call in run.by_call)
    named = (address.phase, _number(address.step) or 0) if address.phase else None
    phase, step = _one_of(calls, named, (default.phase, default.step), call_name(*named) if named else "")
    of_step = [call for call in run.by_call if (call.phase, call.step) == (phase, step)]
    users = _distinct(call.user for call in of_step)
    user = _one_of(users, _number(address.user), default.user, f"user {address.user}")
    modes = _distinct(call.mode for call in of_step if call.user == user)
    if not with_mode:
        modes = [ACCUMULATED]
    mode = _one_of(modes, address.mode if with_mode else None, default.mode, f"{address.mode} error")
    if len(calls) > 1:
        choose(
            "Call",
            calls,
            (phase, step),
            lambda chosen: {"phase": chosen[0], "step": chosen[1]},
            format_func=lambda chosen: call_name(*chosen),
            width=200,
        )
    if len(users) > 1:
        choose("User", users, user, lambda chosen: {"user": chosen}, width=110)
    if len(modes) > 1:
        choose("Error", modes, mode, lambda chosen: {"mode": chosen}, width=170)
    return Call(phase, step, user, mode)


def choose_user(users: list[int], address: Address) -> int:
    """A select box where there are several; the first unless the address names another."""
    user = _one_of(users, _number(address.user), users[0], f"user {address.user}")
    if len(users) > 1:
        choose("User", users, user, lambda chosen: {"user": chosen, "token": None}, width=110)
    return user


def named_token(positions: list[int], default: int, address: Address) -> int:
    """The token position that the address names, said to be missing where it is; else the default."""
    return _one_of(positions, _number(address.token), default, f"token {address.token}")


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


def records_of(run: OpenedRun, call: Call) -> list[Record]:
    """The records of one call, in the order of execution."""
    return list(run.by_call[call])


def _distinct(values: Iterable[Value]) -> list[Value]:
    return list(dict.fromkeys(values))


def _number(text: str | None) -> int | None:
    """The number that an address gives; −1, which nothing has, where it is none."""
    if text is None:
        return None
    return int(text) if text.isdecimal() else -1


def _one_of(options: list[Value], named: Value | None, default: Value, name: str) -> Value:
    """What the address names, said to be missing where it is; else the default, else the first."""
    if named in options:
        return named
    if named is not None:
        st.info(f"The address names {code(name)}, which this run does not have.", icon=":material/info:")
    return default if default in options else options[0]
