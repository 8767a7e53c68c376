# SPDX-License-Identifier: Apache-2.0
"""The job of `tttdebug audit`: build a port, of a family or a user's own, and audit its weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PortError

if TYPE_CHECKING:
    from tttdebug.job import Job, Progress
    from tttdebug.tracking import Audit


def audited(job: Job, progress: Progress) -> Audit:
    """The audit of every weight; nothing is run. Raises a TttdebugError for what is in the way."""
    from tttdebug.backends import opened_device
    from tttdebug.families import register_file
    from tttdebug.foreign_port import imported_ttnn
    from tttdebug.job_sides import built_port, refuse_family_without_weights
    from tttdebug.references import load_reference
    from tttdebug.tracking import audit

    if job.port is not None and job.port_weights is not None:
        raise PortError("--port-weights is for the ports that tttdebug builds; your own loads its weights in build")
    if job.family is not None:
        register_file(job.family)
    ttnn = nullcontext() if job.port is None else imported_ttnn(job.device, job.engine)
    engine: dict[str, Any] = {"engine": job.engine} if job.device == "emulated" else {}
    with ttnn, opened_device(job.device, **engine) as device:
        if job.port is None:
            refuse_family_without_weights(job)
        reference = load_reference(job.model, weights=job.weights, layers=job.layers, progress=progress)
        progress("build the port", None)
        port = built_port(job, reference, device).port
        progress("audit the weights", None)
        return audit(port, reference)
