# SPDX-License-Identifier: Apache-2.0
"""Queries, keys and values by one matrix on one side and by three on the other: which channels are whose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tttdebug.tracking.heads_in_config import HeadsInConfig
from tttdebug.tracking.module_roles import Role
from tttdebug.tracking.pairing import Pair, PairLayout

PARTS = ("q_proj", "k_proj", "v_proj")
_BY_HEAD = frozenset({"query_key_value"})
"""Fused matrices whose channels are not [q|k|v] but head by head (GPT-NeoX, Falcon): no range of channels is a part."""


class _Side(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def module(self) -> Any: ...
    @property
    def role(self) -> Role: ...


@dataclass(frozen=True)
class FusedPairs:
    """The pairs of one attention module, the modules that they use up, and the evidence."""

    pairs: tuple[Pair, ...]
    port_paths: tuple[str, ...]
    reference_paths: tuple[str, ...]
    because: str


def fused_pairs(port: Iterable[_Side], reference: Iterable[_Side], heads: HeadsInConfig) -> Iterator[FusedPairs]:
    """A pair for each of queries, keys and values of every attention that is fused on one side only."""
    here, there = ({candidate.role: candidate for candidate in side} for side in (port, reference))
    for role, fused in here.items():
        if role.parts[-1:] == ("qkv",) and (separate := _separate(role, there)):
            sizes = [_outputs(candidate.module) for candidate in separate]
            if all(sizes):
                yield _fused_port(fused, separate, [size for size in sizes if size is not None])
    for role, fused in there.items():
        if role.parts[-1:] == ("qkv",) and (separate := _separate(role, here)):
            sizes_of_config = heads.projection_sizes()
            if sizes_of_config and fused.path.rpartition(".")[2] not in _BY_HEAD:
                yield _fused_reference(separate, fused, sizes_of_config)


def _separate(role: Role, candidates: dict[Role, _Side]) -> list[_Side]:
    beside = [candidates.get(replace(role, parts=(*role.parts[:-1], part))) for part in PARTS]
    found = [candidate for candidate in beside if candidate is not None]
    return found if len(found) == len(PARTS) else []


def _fused_port(fused: _Side, separate: list[_Side], sizes: list[int]) -> FusedPairs:
    pairs = tuple(
        Pair(part.role.boundary, fused.path, part.path, PairLayout(port_columns=columns))
        for part, columns in zip(separate, _ranges(sizes), strict=True)
    )
    return FusedPairs(pairs, (fused.path,), tuple(part.path for part in separate), f"{fused.path} is [q|k|v]")


def _fused_reference(separate: list[_Side], fused: _Side, sizes: list[int]) -> FusedPairs:
    pairs = tuple(
        Pair(part.role.boundary, part.path, fused.path, PairLayout(reference_columns=columns))
        for part, columns in zip(separate, _ranges(sizes), strict=True)
    )
    return FusedPairs(pairs, tuple(part.path for part in separate), (fused.path,), f"{fused.path} is [q|k|v]")


def _ranges(sizes: list[int]) -> list[tuple[int, int]]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _outputs(module: Any) -> int | None:
    """The channels that a torch projection gives: of a Linear, or of transformers' transposed Conv1D."""
    size = getattr(module, "out_features", None) or getattr(module, "nf", None)
    return int(size) if size else None
