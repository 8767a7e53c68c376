# SPDX-License-Identifier: Apache-2.0
"""Modules that err a little beside their twins, by less than counts as a fault, and what mathematics says of it.

Both sides round alike, so the difference of the two is the fault's alone: a change is tried on that. T tokens, C
channels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Finding
from tttdebug.analysis.hypotheses import NOTHING, rel_l2, search
from tttdebug.analysis.hypotheses.bench import OF_NUMBERS
from tttdebug.analysis.hypotheses.narrowing import narrowed
from tttdebug.analysis.isolated import OwnOutput
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.own_error import OwnError
from tttdebug.tracking.record import Key

if TYPE_CHECKING:
    import torch

NEAR = 0.25
"""Of its limit, the error from which a module beside its twin is looked at: a sound one is off by next to nothing."""
OUT_OF_ALL = 3.0
"""Times the median of all modules, below which it shows how the device adds up, and no module's fault."""
FLOORS = 12.0
"""Above so many limits an error is neither of numbers nor small."""
KEPT = 4  # calls of a module, the first ones
SECONDS = 5.0  # of a search


@dataclass(frozen=True)
class SmallError:
    """A call in which a module was a little off its twin: what the port's gave and the twin's, both [T, C]."""

    key: Key
    port_TC: torch.Tensor
    twin_TC: torch.Tensor

    @property
    def rel_l2(self) -> float:
        return rel_l2(self.port_TC, self.twin_TC)


class SmallErrors:
    """Those of every module, kept while a port runs beside its twin; of a module that errs more in any call, none."""

    def __init__(self) -> None:
        self._kept: dict[str, list[SmallError]] = {}
        self._greatest: dict[str, float] = {}

    def note(self, key: Key, output: OwnOutput, error: OwnError) -> None:
        """One output beside its twin's."""
        ratio = math.inf if error.comparison.nonfinite_port else error.ratio
        self._greatest[key.boundary] = max(ratio, self._greatest.get(key.boundary, 0.0))
        if NEAR < ratio <= FLOORS and output.floor_TC is not None:
            kept = self._kept.setdefault(key.boundary, [])
            if len(kept) < KEPT:
                kept.append(SmallError(key, output.aligned.port_TC.float(), output.floor_TC.float()))

    def by_boundary(self) -> dict[str, list[SmallError]]:
        """The errors of modules that are off a little, and out of what all modules show."""
        usual = statistics.median(self._greatest.values()) if self._greatest else 0.0
        return {
            boundary: kept
            for boundary, kept in self._kept.items()
            if OUT_OF_ALL * usual < self._greatest[boundary] <= FLOORS
        }


def mathematics_of(call: ModuleCall, errors: Sequence[SmallError]) -> Finding | None:
    """A finding where a change of a module's mathematics makes the difference from its twin, in `call`, a prefill of
    these; None where none does.

    Raises WeightsError for a call without a weight that its spec needs.
    """
    error = next((error for error in errors if error.key == call.key), None)
    if error is None:
        return None
    call = narrowed(call)
    twin_TC = error.twin_TC if call.kept_C is None else error.twin_TC[:, call.kept_C]
    healthy_TC = NOTHING.predict(call)
    apart = replace(
        call,
        port_TC=healthy_TC + (call.port_TC.float() - twin_TC),
        floor_rel_l2=rel_l2(call.reference_TC.float(), healthy_TC),
    )
    confirmed = search(apart, combine=False, budget_seconds=SECONDS, at_fault=True).confirmed
    best = next((trial for trial in confirmed if trial.cause not in OF_NUMBERS), None)
    if best is None:
        return None
    return Finding(
        call.boundary,
        best.cause,
        f"{best.says}; beside its twin, which rounds alike, the port is off by just that",
        module=call.module,
        reference_path=call.reference_path,
        experiments=(best.experiment,),
        fix=best.fix,
        records=tuple(error.key for error in errors),
    )
