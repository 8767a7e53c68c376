# SPDX-License-Identifier: Apache-2.0
"""The job of `tttdebug pair`: build a user's port beside its reference, and plan which modules are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.tracking.pairing_plan import PairingPlan

Progress = Callable[[str, "float | None"], None]


@dataclass(frozen=True)
class PairJob:
    """What `tttdebug pair` was asked for."""

    port: str
    reference: str
    weights: Path | None = None
    layers: int | None = None
    device: str = "emulated"
    engine: str = "fast"
    pairs: Path | None = None


def plan(job: PairJob, progress: Progress) -> PairingPlan:
    """The plan for a port, which is built but not run. Raises a TttdebugError for what is in the way."""
    from tttdebug.backends import opened_device
    from tttdebug.foreign_port import build_port, imported_ttnn
    from tttdebug.references import load_reference
    from tttdebug.tracking.pairing_plan import plan_pairs

    with imported_ttnn(job.device, job.engine):
        progress("load the reference", None)
        reference = load_reference(job.reference, weights=job.weights, layers=job.layers, progress=progress)
        with opened_device(job.device, engine=job.engine) as device:
            progress("build the port", None)
            return plan_pairs(build_port(job.port, reference.model, device).port, reference.model, job.pairs)
