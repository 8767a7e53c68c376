# SPDX-License-Identifier: Apache-2.0
"""Whose an error is: verdicts on the records of a run, from what its modules do alone and what came into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import INHERITED, ISOLATED

AMPLIFIES = 4.0
"""Error out over error in from which a module without an error of its own is said to amplify, not to pass on."""


def verdicts_of(
    records: Sequence[Record], experiments: Sequence[Record], holders: Mapping[str, str | None]
) -> dict[Key, str]:
    """The verdict of every record that the experiments settle; `holders` names the boundary around each one.

    A boundary above its floor is `injected` where its module errs alone, and `amplified` or `inherited` where the error
    came in, be it from the wiring of the module around it. The first one above its floor stays `diverged` when nothing
    before it erred alone: its error arose between modules, and no module may be cleared for it.
    """
    own = {_call_of(record): record for record in experiments if record.mode == ISOLATED}
    passed_on = {_call_of(record): record for record in experiments if record.mode == INHERITED}
    verdicts: dict[Key, str] = {}
    source: set[int] = set()  # users in whose calls an error has arisen
    for record in records:
        key, alone = _call_of(record), own.get(_call_of(record))
        around = own.get(replace(key, boundary=holders.get(record.boundary) or ""))
        if any(experiment is not None and experiment.failed for experiment in (alone, around)):
            source.add(record.user)
        if record.verdict not in ("diverged", "injected", "inherited", "amplified"):
            continue
        verdicts[record.key] = _verdict(alone, passed_on.get(key), arose=record.user in source)
        source.add(record.user)
    return verdicts


def _verdict(alone: Record | None, passed_on: Record | None, *, arose: bool) -> str:
    if alone is None or not arose:
        return "diverged"
    if alone.failed:
        return "injected"
    return "amplified" if passed_on is not None and passed_on.amplification >= AMPLIFIES else "inherited"


def _call_of(record: Record) -> Key:
    """The call that a record is about, whatever its mode."""
    return replace(record.key, mode="")
