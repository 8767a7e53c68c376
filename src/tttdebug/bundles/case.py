# SPDX-License-Identifier: Apache-2.0
"""A program beside what it should give, and whether it fails: what is cut down and what a bundle holds.

T tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.own_error import OF_FORMATS, OF_TWIN
from tttdebug.bundles.capture import Captured
from tttdebug.bundles.program import Program
from tttdebug.bundles.replay import replay
from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.gates import default_gate
from tttdebug.tracking.metric_notes import rel_l2_instead_of

if TYPE_CHECKING:
    import torch

_LIKE = 2.0
"""A failure is the same while its error, in units of its limit, changes by no more than this factor."""


@dataclass(frozen=True, eq=False)
class Case:
    """A program, its golden [T, C] and where each value of that is in the program's output, flattened.

    `limit` is the greatest rel_l2 that passes, `floor` the one that number formats cause (nan where that is not known).
    `control` is the same program of a sound port, which must pass, where there is one.
    """

    program: Program
    golden_TC: torch.Tensor
    places_TC: torch.Tensor
    limit: float
    floor: float
    floor_TC: torch.Tensor | None = None
    control: Program | None = None


@dataclass(frozen=True)
class Seen:
    """What a program gave beside its golden, and how far it is beyond the limit: fails above 1."""

    comparison: Comparison
    limit: float

    @property
    def factor(self) -> float:
        """rel_l2 in units of the limit; infinite where the program's output holds what is no number."""
        wrong = not self.comparison.nonfinite_masks_agree or math.isnan(self.comparison.rel_l2)
        return math.inf if wrong else self.comparison.rel_l2 / self.limit

    @property
    def fails(self) -> bool:
        return self.factor > 1

    def is_like(self, other: Seen) -> bool:
        """Whether both fail, and by about as much."""
        if not (self.fails and other.fails):
            return False
        if math.isinf(self.factor) or math.isinf(other.factor):
            return self.factor == other.factor
        return 1 / _LIKE <= self.factor / other.factor <= _LIKE

    def __str__(self) -> str:
        return f"rel_l2 {self.comparison.rel_l2:.4g}, pcc {self.comparison.pcc:.6g}, limit {self.limit:.3g}"


def case_of(captured: Captured) -> Case:
    """The case of a module's call as it was recorded, without the ops that its output does not depend on."""
    control = captured.control
    return module_case(
        captured.program.without_idle_ops(),
        captured.golden_TC,
        captured.places_TC,
        captured.floor_TC,
        None if control is None else control.without_idle_ops(),
        captured,
    )


def module_case(
    program: Program,
    golden_TC: torch.Tensor,
    places_TC: torch.Tensor,
    floor_TC: torch.Tensor | None,
    control: Program | None,
    captured: Captured,
) -> Case:
    """A case whose limit follows from what number formats leave of its golden.

    A sound module may be off by its floor, and by what sound modules were seen to be apart from their floor. Where no
    floor is known the limit is that of the field's gate, turned into rel_l2.
    """
    floor = math.nan if floor_TC is None else compare(golden_TC, floor_TC).rel_l2
    if math.isnan(floor):
        gate = default_gate(captured.call.boundary, captured.call.phase, tokens=len(golden_TC))
        limit = rel_l2_instead_of(gate.pcc)
    else:
        tolerance = OF_FORMATS if captured.control is None else OF_TWIN
        limit = math.hypot(floor, tolerance.limit(floor, len(golden_TC)))
    return Case(program, golden_TC, places_TC, limit, floor, floor_TC, control)


def seen(case: Case, device: Any) -> Seen:
    """What a case's program gives on a device."""
    return seen_output(case, replay(case.program, device))


def control_seen(case: Case, device: Any) -> Seen | None:
    """What the sound program of a case gives; None where there is none."""
    return None if case.control is None else seen_output(case, replay(case.control, device))


def seen_output(case: Case, output: torch.Tensor) -> Seen:
    """An output of a case's program beside the golden. Raises LayoutError where it is too small for the places."""
    if int(case.places_TC.max()) >= output.numel():
        raise LayoutError(f"the program's output {list(output.shape)} is smaller than its golden's places")
    given_TC = output.reshape(-1)[case.places_TC.reshape(-1)].reshape(case.golden_TC.shape).float()
    return Seen(compare(case.golden_TC, given_TC), case.limit)
