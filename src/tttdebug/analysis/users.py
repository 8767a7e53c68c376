# SPDX-License-Identifier: Apache-2.0
"""Users that have changed places: what the port gives for one is what the reference gives for another."""

from __future__ import annotations

from collections.abc import Sequence

from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.module_call import ModuleCall

MARGIN = 2.0
"""Floors within which another user's output is taken for this one's."""


def swapped_users(calls: Sequence[ModuleCall]) -> Finding | None:
    """A finding where, in one call, users give each other's outputs; None where there is one user, or none does."""
    for call in calls:
        for other in calls:
            if (call.key.phase, call.key.step) != (other.key.phase, other.key.step) or call.key.user == other.key.user:
                continue
            if call.port_TC.shape != other.reference_TC.shape:
                continue
            own = rel_l2(call.port_TC.float(), call.reference_TC.float())
            others = rel_l2(call.port_TC.float(), other.reference_TC.float())
            if others <= MARGIN * max(call.floor_rel_l2, other.floor_rel_l2) and others <= own / 2:
                return _finding(call, other, own, others)
    return None


def _finding(call: ModuleCall, other: ModuleCall, own: float, others: float) -> Finding:
    one, two = sorted((call.key.user, other.key.user))
    return Finding(
        call.boundary,
        "users_swapped",
        f"user {call.key.user} is given what belongs to user {other.key.user}",
        module=call.module,
        reference_path=call.reference_path,
        experiments=(Experiment(f"beside the reference's output for user {other.key.user}", own, others),),
        fix=Fix(
            f"see how rows {one} and {two} are sharded over cores and gathered again, and whose cache row each reads"
        ),
        records=(call.key, other.key),
    )
