# SPDX-License-Identifier: Apache-2.0
"""Finding pairs: the user's own, then the same path, then the same role, then class and order, then shapes.

A rule pairs only what it leaves one choice for; two equally good candidates stay unpaired, and the plan says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.candidates import Candidate, computes, grouped_by_kind, grouped_by_role, has_layer_norms
from tttdebug.tracking.discovery import PortModule, discover
from tttdebug.tracking.fused_projections import fused_pairs
from tttdebug.tracking.heads_in_config import HeadsInConfig
from tttdebug.tracking.module_roles import Role, has_norms_after, roles_of
from tttdebug.tracking.module_weights import (
    Shapes,
    are_the_same,
    could_be_the_same,
    shapes_in_port,
    shapes_in_torch,
)
from tttdebug.tracking.pairing import AS_IT_IS, Pair, module_at
from tttdebug.tracking.pairing_plan import FoundBy, PairingPlan, PlannedPair, Unpaired, UserPairs, in_order
from tttdebug.tracking.user_pairs import loaded, user_pairs

if TYPE_CHECKING:
    from torch import nn


def find_pairs(port: Any, reference_model: nn.Module, mapping: UserPairs | None) -> PairingPlan:
    """The plan; see `plan_pairs`."""
    discovery = discover(port, reference_model.modules())
    finding = _Finding(port, reference_model, discovery.modules)
    mapping = loaded(mapping)
    finding.take(user_pairs(mapping, port, reference_model))
    if isinstance(mapping, PairingPlan) and mapping.complete:
        return finding.plan_as_given(mapping)
    finding.leave_scaled_logits()
    finding.by_path()
    finding.embedding_with_positions()
    finding.by_role()
    finding.fused()
    finding.by_class_and_order()
    finding.by_shapes()
    notes = [f"{unread.path or 'the port'}: {unread.reason}" for unread in discovery.unread]
    return finding.plan(notes)


class _Finding:
    """What is paired so far, and what is left on either side."""

    def __init__(self, port: Any, reference_model: nn.Module, modules: Sequence[PortModule]) -> None:
        self._port, self._model = port, reference_model
        named = {path: module for path, module in reference_model.named_modules() if computes(module)}
        norms_after = has_norms_after(named)
        by_name = [module.name or module.path for module in modules]
        port_roles = roles_of(
            [path for module in modules for path in (*module.paths, module.name)], norms_come_after=norms_after
        )
        reference_roles = roles_of(named, norms_come_after=norms_after and has_layer_norms(modules))
        self._port_left = {
            module.path: Candidate(module.path, module.module, module.class_name, port_roles[name], module.paths)
            for module, name in zip(modules, by_name, strict=True)
        }
        self._reference_left = {
            path: Candidate(path, module, type(module).__name__, reference_roles[path], (path,))
            for path, module in named.items()
        }
        self._all_reference = dict(self._reference_left)
        self._all_port = dict(self._port_left)
        self._port_aside: dict[str, Candidate] = {}
        self._reference_aside: dict[str, Candidate] = {}
        self._planned: list[PlannedPair] = []
        self._reasons: dict[tuple[str, str], str] = {}  # (side, path) → why it is left
        self._known_roles: set[Role] | None = None
        self._heads = HeadsInConfig.of(reference_model)
        self._taken: set[str] = set()  # boundaries

    def take(self, pairs: Iterable[Pair]) -> None:
        """The user's pairs, before any other; a module in one of them is in no other."""
        for pair in pairs:
            self._planned.append(PlannedPair(pair, "mapping"))
            self._taken.add(pair.boundary)
            target = module_at(self._port, pair.port, pair.boundary)
            for path, candidate in list(self._port_left.items()):
                if candidate.module is target:
                    del self._port_left[path]
            self._reference_left.pop(pair.reference, None)

    def leave_scaled_logits(self) -> None:
        """Where a reference caps or scales its logits after its head, a port's head may do so too, or not."""
        config: Any = getattr(self._model, "config", None)
        cap, scale = getattr(config, "final_logit_softcapping", None), getattr(config, "logit_scale", None)
        if cap is None and scale in (None, 1):
            return
        for side, left, aside in (
            ("port", self._port_left, self._port_aside),
            ("reference", self._reference_left, self._reference_aside),
        ):
            for path in [path for path, each in left.items() if each.role == Role("", None, ("logits",))]:
                aside[path] = left.pop(path)
                self._reasons[side, path] = (
                    "ambiguous: the reference caps or scales its logits after its head, and what the port's head does "
                    'cannot be told; give a pair with that head, or with the whole reference: reference = ""'
                )

    def by_path(self) -> None:
        """A module that is at the same place on both sides."""
        for candidate in list(self._port_left.values()):
            if not candidate.path or candidate.role.parts[:1] == ("model",) or candidate.role.parts[-1:] == ("rope",):
                continue
            for path in candidate.paths:
                if path in self._reference_left:
                    self._pair(candidate, self._reference_left[path], "path")
                    break

    def embedding_with_positions(self) -> None:
        """GPT-2's `drop` gives the sum of embeddings and positions, as a port does that has no module for positions."""
        sums = [each for each in self._reference_left.values() if each.role == Role("", None, ("drop",))]
        port = [each for each in self._port_left.values() if each.role == Role("", None, ("embed",))]
        positions = Role("", None, ("positions",))
        learned = any(each.role == positions for each in self._reference_left.values())
        if learned and len(sums) == len(port) == 1 and all(each.role != positions for each in self._port_left.values()):
            because = f"{sums[0].path} gives embeddings and positions together"
            pair = Pair("embed", port[0].path, sums[0].path)
            self._planned.append(PlannedPair(self._named(pair), "synonym", because))
            del self._port_left[port[0].path], self._reference_left[sums[0].path]

    def by_role(self) -> None:
        """A module of the same role, where each side has one of it."""
        reference = grouped_by_role(self._reference_left.values())
        for role, here in grouped_by_role(self._port_left.values()).items():
            there = reference.get(role, [])
            if role.parts[:1] == ("model",) or role.parts[-1:] == ("rope",):
                continue
            if len(here) == len(there) == 1:
                self._pair(here[0], there[0], "synonym")
            elif here and there:
                self._ambiguous(here, there)

    def fused(self) -> None:
        """Queries, keys and values that one side computes with one matrix and the other with three."""
        for fused in list(fused_pairs(self._port_left.values(), self._reference_left.values(), self._heads)):
            for pair in fused.pairs:
                layout = self._heads.layout_at(pair.boundary, pair.layout)
                self._planned.append(PlannedPair(self._named(replace(pair, layout=layout)), "synonym", fused.because))
            for path in fused.port_paths:
                self._port_left.pop(path)
            for path in fused.reference_paths:
                self._reference_left.pop(path)

    def by_class_and_order(self) -> None:
        """Parts of the same whole that are of one kind, as many on both sides: the first with the first, and so on."""
        for kind, here, there in self._leftovers():
            known_apart = any(a.role.is_known and b.role.is_known for a, b in zip(here, there, strict=False))
            if len(here) != len(there) or known_apart:  # by their names they are two different things
                continue
            fits = all(
                could_be_the_same(self._shapes_in_port(a), shapes_in_torch(b.module))
                for a, b in zip(here, there, strict=True)
            )
            if not fits:
                self._leave(
                    "port", here, f"the sizes of its weights are not those of the reference's {kind} in that place"
                )
                self._leave(
                    "reference", there, f"the sizes of its weights are not those of the port's {kind} in that place"
                )
                continue
            for number, (a, b) in enumerate(zip(here, there, strict=True), 1):
                self._pair(a, b, "class and order", f"{kind} {number} of {len(here)} that had no known name")

    def by_shapes(self) -> None:
        """Of several of one kind, those whose weights have the same shapes, where only one of each side does."""
        for kind, here, there in self._leftovers():
            mine = {a.path: self._shapes_in_port(a) for a in here}
            theirs = {b.path: shapes_in_torch(b.module) for b in there}
            for a in here:
                fits = [
                    b
                    for b in there
                    if are_the_same(mine[a.path], theirs[b.path]) and not (a.role.is_known and b.role.is_known)
                ]
                rivals = [c for c in here if fits and are_the_same(mine[c.path], theirs[fits[0].path])]
                if len(fits) == 1 and len(rivals) == 1:
                    self._pair(a, fits[0], "shapes", f"the only {kind} with weights of these shapes")
                elif fits:
                    self._ambiguous(rivals, fits)

    def plan(self, notes: Sequence[str]) -> PairingPlan:
        """All of it. Raises PairingError when there is no pair."""
        plan = PairingPlan(
            in_order(self._planned),
            tuple(
                Unpaired(path, left.class_name, self._why("port", left, self._reference_left))
                for path, left in {**self._port_left, **self._port_aside}.items()
            ),
            tuple(
                Unpaired(path, left.class_name, self._why("reference", left, self._port_left))
                for path, left in {**self._reference_left, **self._reference_aside}.items()
            ),
            tuple(notes),
        )
        if not plan.planned:
            found = ", ".join(path or type(self._port).__name__ for path in list(self._all_port)[:5]) or "none"
            raise PairingError(
                f"no module of {type(self._port).__name__} answers to one of {type(self._model).__name__}; the port's "
                f"modules: {found}. Give pairs={{boundary: (port path, reference path)}}"
            )
        return plan

    def plan_as_given(self, given: PairingPlan) -> PairingPlan:
        """A user's complete plan: how its pairs were found, as it says, and what it leaves out."""
        found = {(each.pair.port, each.pair.reference): each for each in given.planned}
        self._planned = [
            replace(found.get((each.pair.port, each.pair.reference), each), pair=each.pair) for each in self._planned
        ]
        for side, left in (("port", given.unpaired_port), ("reference", given.unpaired_reference)):
            self._reasons |= {(side, each.path): each.reason for each in left}
        for side, paths in (("port", self._port_left), ("reference", self._reference_left)):
            for path in paths:
                self._reasons.setdefault((side, path), "the plan that was given leaves it out")
        return self.plan([])

    def _shapes_in_port(self, candidate: Candidate) -> Shapes:
        """The shapes of a port's module, without those of what it is a part of."""
        whole = [
            each.module for path, each in self._all_port.items() if not path or candidate.path.startswith(f"{path}.")
        ]
        return shapes_in_port(candidate.module, [self._port, *whole])

    def _leftovers(self) -> list[tuple[str, list[Candidate], list[Candidate]]]:
        """What is left of each kind within each whole, in the order of the attributes."""
        here, there = (grouped_by_kind(left.values()) for left in (self._port_left, self._reference_left))
        return [
            (key[1], candidates, there[key])
            for key, candidates in here.items()
            if key[1] not in ("", "rotary") and key in there
        ]

    def _pair(self, here: Candidate, there: Candidate, found_by: FoundBy, because: str = "") -> None:
        boundary = there.role.boundary
        pair = Pair(boundary, here.path, there.path, self._heads.layout_at(boundary, AS_IT_IS))
        self._planned.append(PlannedPair(self._named(pair), found_by, because))
        del self._port_left[here.path], self._reference_left[there.path]

    def _named(self, pair: Pair) -> Pair:
        """The pair under a boundary that no other has."""
        named = replace(pair, boundary=pair.reference) if pair.boundary in self._taken else pair
        self._taken.add(named.boundary)
        return named

    def _ambiguous(self, here: Sequence[Candidate], there: Sequence[Candidate]) -> None:
        ours, theirs = (", ".join(candidate.path for candidate in side) for side in (here, there))
        self._leave("port", here, f"ambiguous: {theirs} of the reference fit equally well; give a pair")
        self._leave("reference", there, f"ambiguous: {ours} of the port fit equally well; give a pair")

    def _leave(self, side: str, candidates: Iterable[Candidate], reason: str) -> None:
        for candidate in candidates:
            self._reasons[side, candidate.path] = reason

    def _why(self, side: str, left: Candidate, others: Mapping[str, Candidate]) -> str:
        if reason := self._reasons.get((side, left.path)):
            return reason
        other = "reference" if side == "port" else "port"
        if not left.path:
            return f"it is the whole {side if side == 'port' else 'model'}: its logits are compared by themselves"
        if left.role.parts[:1] == ("model",):
            return "it holds the other modules; its output is what the last of them gives"
        if left.role.parts[-1:] == ("rope",):
            return "rotary tables have no boundary: a fault in them shows in the queries and keys"
        if left.role in self._paired_roles():
            return f"its counterpart of the {other} is in another pair"
        whole = Role(left.role.stack, left.role.layer, left.role.parts[:-1])
        if whole in self._paired_roles():
            return f"the {other} has no module for this part; the whole is compared"
        near = difflib.get_close_matches(left.path, [path for path in others if path], n=2, cutoff=0.5)
        return f"the {other} has no module for it{'; unpaired there and nearest: ' + ', '.join(near) if near else ''}"

    def _paired_roles(self) -> set[Role]:
        """The roles that a pair of modules has."""
        if self._known_roles is None:
            paired = {each.pair.reference for each in self._planned}
            self._known_roles = {each.role for path, each in self._all_reference.items() if path in paired}
        return self._known_roles
