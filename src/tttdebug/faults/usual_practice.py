# SPDX-License-Identifier: Apache-2.0
"""What the field's usual checks say of a run, beside which an explanation is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import Run

if TYPE_CHECKING:
    import torch

PCC = 0.99
DIFFERENCE = 0.05


def _layers_by_pcc(run: Run) -> Iterator[str]:
    """PCC of at least 0.99 asked of whole layers and of the logits."""
    return (r.boundary for r in run.records if kind_of(r.boundary) in ("layer_out", "logits") and not r.pcc >= PCC)


def _modules_by_pcc(run: Run) -> Iterator[str]:
    """PCC of at least 0.99 asked of every module: the first below it is blamed."""
    return (record.boundary for record in run.records if not record.pcc >= PCC)


def _modules_by_statistics(run: Run) -> Iterator[str]:
    """Mean, standard deviation and greatest value asked to be within 5 %."""
    return (record.boundary for record in run.records if _statistics_differ(run, record))


def _statistics_differ(run: Run, record: Record) -> bool:
    saved = run.tensors(record.key)
    if saved is None:
        return False
    truth, port = (values.float() for values in saved)
    spread = float(truth.std())
    differences = (
        float(port.mean() - truth.mean()) / spread,
        float(port.std()) / spread - 1,
        _greatest(port) / _greatest(truth) - 1,
    )
    return not all(abs(difference) <= DIFFERENCE for difference in differences)


def _greatest(values: torch.Tensor) -> float:
    return float(values.abs().max())


PRACTICES: dict[str, Callable[[Run], Iterator[str]]] = {
    "PCC ≥ 0.99 of layers and logits": _layers_by_pcc,
    "PCC ≥ 0.99 of every module": _modules_by_pcc,
    "mean, std, absmax within 5 %": _modules_by_statistics,
}
"""Each gives the boundaries that it blames, in the order of execution; the run must have kept its tensors."""


def usual_practice(run: Run) -> dict[str, str | None]:
    """Which boundary each practice would blame first; None where it finds nothing wrong."""
    return {name: next(blamed(run), None) for name, blamed in PRACTICES.items()}
