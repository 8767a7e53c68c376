# SPDX-License-Identifier: Apache-2.0
"""Whose an error is: verdicts on the records of a run, from what its modules do alone and what came into them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import INHERITED, ISOLATED

NO_MORE, MOST = 1.5, 0.5
AMPLIFIES = 4.0
"""Error out over error in from which a module without an error of its own is said to amplify, not to pass on."""


def verdicts_of(
    records: Sequence[Record],
    experiments: Sequence[Record],
    holders: Mapping[str, str | None],
    filled_by: Mapping[str, str],
    tied: Collection[Key] = (),
) -> dict[Key, str]:
    """The verdict of every record that the experiments settle.

    `holders` names the boundary around each one, `filled_by` the boundary of the module that fills each cache, `tied`
    the calls of mixtures whose whole error is that ties between experts fell the other way.

    A boundary above its floor is `injected` where its module errs alone. It is `inherited`, or `amplified`, where the
    error came in: from a module before it that errs alone, from the wiring around it, or, where none does, from sound
    modules whose rounding the model enlarges; then what came in must be no more than what was there before. The first
    one above its floor stays `diverged` when it is more: the error arose between modules, and none is cleared for it.
    """
    own = {_call_of(record): record for record in experiments if record.mode == ISOLATED}
    passed_on = {_call_of(record): record for record in experiments if record.mode == INHERITED}
    verdicts: dict[Key, str] = {}
    source: set[int] = set()  # users in whose calls an error has arisen
    greatest: dict[tuple[str, int, int], float] = {}  # rel_l2 so far in a call of a user
    for record in records:
        key, alone = _call_of(record), own.get(_call_of(record))
        around = own.get(replace(key, boundary=holders.get(record.boundary) or ""))
        if key in tied or any(experiment is not None and experiment.failed for experiment in (alone, around)):
            source.add(record.user)
        call = (record.phase, record.step, record.user)
        if record.verdict in ("diverged", "injected", "inherited", "amplified"):
            came = passed_on.get(replace(key, boundary=filled_by.get(record.boundary, record.boundary)))
            explained = record.user in source or _came_in(record, came, greatest.get(call, 0.0))
            verdicts[record.key] = _verdict(alone, came, explained=explained, enlarges=key in tied)
            if verdicts[record.key] == "diverged":
                source.add(record.user)
        if record.rel_l2 > greatest.get(call, 0.0):
            greatest[call] = record.rel_l2
    return verdicts


def _came_in(record: Record, came: Record | None, greatest: float) -> bool:
    """Whether an error came in, is no more than what was there before, and is most of what went out."""
    if came is None:
        return False
    return came.input_rel_l2 <= NO_MORE * greatest and max(came.rel_l2, came.input_rel_l2) >= MOST * record.rel_l2


def _verdict(alone: Record | None, came: Record | None, *, explained: bool, enlarges: bool) -> str:
    if alone is None or not explained:
        return "diverged"
    if alone.failed:
        return "injected"
    enlarges = enlarges or (came is not None and came.amplification >= AMPLIFIES)
    return "amplified" if enlarges else "inherited"


def _call_of(record: Record) -> Key:
    """The call that a record is about, whatever its mode."""
    return replace(record.key, mode="")
