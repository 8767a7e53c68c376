# SPDX-License-Identifier: Apache-2.0
"""What a run compared, still in memory: both sides, how the port is driven, and what both read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.driving import Driver
from tttdebug.tracking.pairing import CachePair, PairedModules
from tttdebug.tracking.prompts import Prompt

if TYPE_CHECKING:
    from torch import nn

    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit


@dataclass(frozen=True)
class Subject:
    """Both sides of a comparison of a language model, for experiments after it.

    `floor` is the reference in the port's number formats, with its module at each boundary in `floor_modules`.
    """

    port: Any
    driver: Driver
    reference: Reference
    paired: Sequence[PairedModules]
    caches: Sequence[CachePair]
    prompts: Sequence[Prompt]
    decode_steps: int
    floor: nn.Module
    floor_modules: Mapping[str, nn.Module]
    weights: Audit | None = None

    @property
    def reference_modules(self) -> dict[str, nn.Module]:
        """The reference's module at each boundary."""
        return {modules.pair.boundary: modules.reference for modules in self.paired}

    @property
    def port_modules(self) -> dict[str, Any]:
        """The port's module at each boundary."""
        return {modules.pair.boundary: modules.port for modules in self.paired}
