# SPDX-License-Identifier: Apache-2.0
"""What one prompt leaves behind for the next: the first boundary whose bits change once it was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.finding import COUNT, Experiment, Finding, Fix
from tttdebug.analysis.special.determinism import Inputs, described, first_difference, outputs_of
from tttdebug.tracking.pairing import PairedModules

if TYPE_CHECKING:
    from tttdebug.tracking.driving import Driver


def first_leak(
    port: Any,
    driver: Driver,
    paired: Sequence[PairedModules],
    inputs: Inputs,
    other: Inputs,
) -> Finding | None:
    """The first boundary that gives other bits for a prompt once another prompt was read in between; None where none.

    The prompt is read twice, then the other one, then the prompt again. Where already the first two readings differ,
    the difference says nothing of the other prompt, and `first_varying` is the question to ask: None too.

    Raises PairingError where no paired module gives a tensor.
    """
    outputs_of(port, driver, paired, inputs)
    before = outputs_of(port, driver, paired, inputs)
    again = outputs_of(port, driver, paired, inputs)
    if first_difference((before, again)) is not None:
        return None
    outputs_of(port, driver, paired, other)
    after = outputs_of(port, driver, paired, inputs)
    at = first_difference((before, after))
    if at is None:
        return None
    boundary = (before if at < len(before) else after)[at].boundary
    pair = next((each.pair for each in paired if each.pair.boundary == boundary), None)
    what = f"outputs that change when {described(other)}, or none, is read in between"
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    return Finding(
        boundary,
        "state_leak",
        f"{boundary} gives other bits for {described(inputs)} once {described(other)} "
        "was read: it reads something that the other prompt left behind",
        module=pair.port if pair else "",
        reference_path=pair.reference if pair else "",
        experiments=(Experiment(what, float(changed), 0.0, 0.0, COUNT),),
        fix=Fix(
            f"make {boundary} read nothing that another prompt wrote: clear the cache when a prompt begins, or mask "
            "what lies beyond its length"
        ),
        where=(f"all {at} outputs before it have the same bits",),
    )
