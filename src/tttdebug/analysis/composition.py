# SPDX-License-Identifier: Apache-2.0
"""Modules within modules: what a module that holds others should give, from what these others gave.

A layer's own error is what its wiring adds, the residuals above all. It is seen by giving the reference's layer the
outputs that the other side's branches had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.reference_calls import TorchCall

if TYPE_CHECKING:
    import torch


class Composition:
    """Which paired modules of a reference lie directly within which: `holders` gives the boundary around each one."""

    def __init__(self, paired: Iterable[PairedModules]) -> None:
        paths = {modules.pair.boundary: modules.pair.reference for modules in paired}
        self.holders: dict[str, str | None] = {
            boundary: max(
                (other for other, around in paths.items() if _is_within(path, around)),
                key=lambda other: len(paths[other]),
                default=None,
            )
            for boundary, path in paths.items()
        }

    def parts_of(self, boundary: str) -> tuple[str, ...]:
        """The boundaries of the modules directly within the one at `boundary`, in their order."""
        return tuple(part for part, holder in self.holders.items() if holder == boundary)

    def expected(
        self, boundary: str, truth: Mapping[str, TorchCall], outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """What the reference gives at a boundary for its own input, when the parts within it gave `outputs`."""
        given = {part: outputs[part] for part in self.parts_of(boundary) if part in outputs and part in truth}
        if not given:
            return truth[boundary].output_tensor
        answers = {}
        for part, output in given.items():
            own = truth[part].output_tensor
            answers[truth[part].module] = truth[part].output_with(output.reshape(own.shape).to(own.dtype))
        return truth[boundary].again(parts=answers)


def _is_within(path: str, around: str) -> bool:
    """Whether a path leads to a module inside of another; the whole model's path is empty."""
    return path.startswith(f"{around}.") if around else path != ""
