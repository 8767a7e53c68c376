# SPDX-License-Identifier: Apache-2.0
"""The modules that may be paired: of which role each is, and those that are alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.discovery import PortModule
from tttdebug.tracking.module_roles import Role, parts_of
from tttdebug.tracking.module_weights import kind_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Candidate:
    """A module of one side that may be paired."""

    path: str
    module: Any
    class_name: str
    role: Role
    paths: tuple[str, ...]

    @property
    def parent(self) -> tuple[str, int | None, tuple[str, ...]]:
        """The role of what it is a part of."""
        return self.role.stack, self.role.layer, self.role.parts[:-1]


def computes(module: nn.Module) -> bool:
    """Whether a torch module is called: a bare list of modules is not."""
    from torch import nn

    return not isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict))


def has_layer_norms(modules: Sequence[PortModule]) -> bool:
    """Whether the port's layers have norms of their own, beside their branches."""
    for module in modules:
        parts = parts_of(module.path)
        numbers = [depth for depth, part in enumerate(parts) if part.isdigit()]
        if numbers and len(parts) == numbers[0] + 2 and kind_of(module.class_name) == "norm":
            return True
    return False


def grouped_by_role(candidates: Iterable[Candidate]) -> dict[Role, list[Candidate]]:
    """Those of each role, in their order."""
    grouped: defaultdict[Role, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        grouped[candidate.role].append(candidate)
    return dict(grouped)


def grouped_by_kind(candidates: Iterable[Candidate]) -> dict[tuple[Any, str], list[Candidate]]:
    """Those of each kind within each whole, in their order."""
    grouped: defaultdict[tuple[Any, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.path and candidate.role.parts:
            kind = kind_of(candidate.class_name) or kind_of(candidate.path.rpartition(".")[2])
            grouped[candidate.parent, kind].append(candidate)
    return dict(grouped)
