# SPDX-License-Identifier: Apache-2.0
"""Watching the port's key/value caches while it runs freely: what stands at a position must stay as it was written.

B users, K key/value heads, L cache length, E head dimension.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.turns import Turn
from tttdebug.backends import to_torch
from tttdebug.tracking.pairing import CachePair, module_at
from tttdebug.tracking.record import Key
from tttdebug.tracking.subject import Subject

if TYPE_CHECKING:
    import torch

BLOCK = 32
"""Positions that are looked at together: a tile, and the smallest page of a paged cache."""


@dataclass(frozen=True)
class Change:
    """A cache that changed where its module should write nothing: one user's positions, and what stands there now.

    The first `valid` positions held something. `misplaced` is the position of the token that the module was to write,
    where it wrote at these instead.
    """

    pair: CachePair
    row: int
    turn: Turn
    valid: int
    positions: tuple[int, ...]
    before_KLE: torch.Tensor
    now_KLE: torch.Tensor
    misplaced: int | None = None

    @property
    def is_of_another_user(self) -> bool:
        """Whether it changed in a call in which its user had no part."""
        return all(part.row != self.row for part in self.turn.users.values())


class CacheWatch:
    """Compares each cache before a module runs, and after it outside of what it wrote, with what it held before.

    Only the first change of each cache is kept: what follows mostly follows from it.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._pairs = {
            boundary: [pair for pair in subject.caches if pair.after == boundary]
            for boundary in dict.fromkeys(pair.after for pair in subject.caches)
        }
        self._held: dict[str, torch.Tensor] = {}
        self._filled: dict[str, dict[int, int]] = {}  # boundary → slot → positions that hold something
        self._changes: dict[str, Change] = {}

    def before(self, boundary: str, turn: Turn) -> None:
        """The module at `boundary` is about to run."""
        for pair in self._pairs.get(boundary, ()):
            if turn.phase == "decode":
                self._look(pair, turn, has_run=False)

    def after(self, boundary: str, turn: Turn) -> None:
        """It has run."""
        for pair in self._pairs.get(boundary, ()):
            if turn.phase == "prefill" and any(part.row == 0 for part in turn.users.values()):
                self._held.pop(pair.boundary, None)  # fresh caches, of which the first slot is filled first
                self._filled.pop(pair.boundary, None)
            self._look(pair, turn, has_run=True)

    def _look(self, pair: CachePair, turn: Turn, *, has_run: bool) -> None:
        import torch

        now_BKLE = to_torch(module_at(self._subject.port, pair.port, pair.boundary)).clone()
        held_BKLE = self._held.get(pair.boundary)
        self._held[pair.boundary] = now_BKLE
        filled = self._filled.setdefault(pair.boundary, {})
        written = {part.row: part.start for part in turn.users.values()}
        for row, valid in (filled | written).items():
            if held_BKLE is None or not valid or pair.boundary in self._changes:
                continue
            before, now = held_BKLE[row], now_BKLE[row]
            differs_L = (before != now).any(dim=-1).any(dim=0)
            unwritten = row in written and has_run and valid < len(differs_L) and not bool(differs_L[valid])
            if not unwritten:
                differs_L[valid:] = False  # positions that nothing stands at yet, and those being written
            if bool(differs_L.any()):
                places = tuple(int(place) for place in torch.nonzero(differs_L)[:, 0])
                misplaced = valid if unwritten else None
                self._changes[pair.boundary] = Change(pair, row, turn, valid, places, before, now, misplaced)
        if has_run:
            filled |= {part.row: part.start + part.tokens for part in turn.users.values()}

    def findings(self) -> list[Finding]:
        """A finding for each attention whose cache changed on its own."""
        by_module: dict[str, list[Change]] = {}
        for change in self._changes.values():
            by_module.setdefault(change.pair.after, []).append(change)
        return [_finding(boundary, changes, self._subject) for boundary, changes in by_module.items()]


def _finding(boundary: str, changes: list[Change], subject: Subject) -> Finding:
    first = changes[0]
    blocks = sorted({place // BLOCK for place in first.positions})
    exchanged = _origin_of_blocks(first, blocks)
    positions = f"{first.positions[0]}" + (f"..{first.positions[-1]}" if len(first.positions) > 1 else "")
    what = " and ".join(change.pair.part for change in changes)
    when = f"{first.turn.phase} {first.turn.step}" if first.turn.phase == "decode" else "the prefill"
    says = f"{what} at positions {positions} of the cache changed before {when} though no token was written there"
    modules = {modules.pair.boundary: modules.pair for modules in subject.paired}
    pair = modules[boundary]
    moved = [f"block {new} holds what block {old} held" for new, old in exchanged.items() if old is not None]
    cause = "kv_block_swapped" if moved else "kv_stale"
    advice = "write only the new token's page, and see that page table and cache are not shared or freed between calls"
    if first.is_of_another_user:
        advice = "fill the slot, or the pages, of the user whose prompt it is"
        user, cause, moved = next(iter(first.turn.users)), "kv_stale", []
        says = f"the {first.turn.phase} of user {user} wrote {what} into slot {first.row} of the cache, another user's"
    if first.misplaced is not None:
        cause = "kv_position"
        says = f"{what} of {when} are written at position {positions} of the cache, not at {first.misplaced}"
    zeroed = [new for new in blocks if not bool(first.now_KLE[:, new * BLOCK : (new + 1) * BLOCK].any())]
    where = [f"{len(first.positions)} positions in blocks {', '.join(map(str, blocks))} of {BLOCK}", *moved]
    if zeroed:
        where.append(f"blocks {', '.join(map(str, zeroed))} are zeros now")
    return Finding(
        boundary=boundary,
        cause=cause,
        says=f"{says}{': ' + ', '.join(moved) if moved else ''}",
        module=pair.port,
        reference_path=pair.reference,
        experiments=(_restored(first),),
        fix=Fix(advice),
        where=tuple(where),
        records=(Key(boundary, first.turn.phase, first.turn.step, next(iter(first.turn.users))),),
    )


def _restored(change: Change) -> Experiment:
    """The cache beside what it held, and beside it once the changed positions are put back."""
    before, now = change.before_KLE.float(), change.now_KLE.float()
    until = max(change.valid, change.positions[-1] + 1)
    norm = float(before[:, :until].norm()) or 1.0
    error = float((now[:, :until] - before[:, :until]).norm()) / norm
    return Experiment("these positions put back as they were written", error, 0.0, 0.0)


def _origin_of_blocks(change: Change, blocks: Iterable[int]) -> dict[int, int | None]:
    """For each changed block the block that held, before, what it holds now; None where none did."""
    import torch

    before = change.before_KLE.split(BLOCK, dim=1)
    found: dict[int, int | None] = {}
    for new in blocks:
        held = change.now_KLE.split(BLOCK, dim=1)[new]
        found[new] = next(
            (
                old
                for old, block in enumerate(before)
                if old != new and block.shape == held.shape and bool(held.any()) and torch.equal(block, held)
            ),
            None,
        )
    return found
