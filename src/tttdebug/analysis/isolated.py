# SPDX-License-Identifier: Apache-2.0
"""Isolated errors: every module of the port fed with the reference's input, in one run of the port a call.

What a module gives is compared and goes on to its caller, whose next module is fed with the reference's input again. A
module that holds other modules is compared with what the reference's gives from the same outputs of these, so that its
own error is that of its wiring. T tokens, C channels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.exchange import rows_of
from tttdebug.analysis.own_floor import Floor, FloorModules, OwnFloor, SoundOutputs
from tttdebug.analysis.port_caches import read_cache
from tttdebug.analysis.turns import Turn, UserTurn, turns
from tttdebug.backends import is_device_tensor, unreadable
from tttdebug.errors import LayoutError
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.calls import known_call
from tttdebug.tracking.layout import Aligned, align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import CachePair
from tttdebug.tracking.placing import like, put_into
from tttdebug.tracking.spread import Spread, read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import PortCall, Substitution

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OwnOutput:
    """What one module of the port gave for the reference's input, beside what it should have given, both [T, C].

    `floor_TC` is what the number formats alone leave of it, None where that is not known; `parts` are what the modules
    within it gave.
    """

    boundary: str
    turn: Turn
    user: UserTurn
    aligned: Aligned
    floor_TC: torch.Tensor | None
    seconds: float
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class NotAlone:
    """A module that could not be fed with the reference's input, and why."""

    boundary: str
    turn: Turn
    reason: str


def isolated_outputs(
    subject: Subject,
    tell: Callable[[OwnOutput | NotAlone], None],
    progress: Callable[[str, float | None], None] = lambda message, fraction: None,
    *,
    twin: Subject | None = None,
) -> None:
    """Run every call of a run again with isolated modules, and tell of each output as soon as it is there.

    With a `twin`, a port that is sound, the floor is what its modules give; else it is that of the reference's modules
    in the port's number formats.
    """
    composition = Composition(subject.paired)
    feeding = Feeding(subject, composition, tell)
    sound = None if twin is None else _Twin(twin)
    with Substitution(subject.port_modules, feeding) as substitution:
        for turn in turns(subject, reference_cache=True):
            progress(f"modules alone: {turn.phase} {turn.step + 1}", None)
            errors = sound.errors() if sound is not None else {}
            feeding.start(
                turn,
                {
                    user: FloorModules(subject, composition, part)
                    if sound is None
                    else SoundOutputs(subject, composition, part, errors.get(user, {}))
                    for user, part in turn.users.items()
                },
            )
            substitution.start_call()
            turn.run()
            feeding.finish()


class _Twin:
    """A sound port, whose modules are run alone call by call, a step ahead of the port's."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._composition = Composition(subject.paired)
        self._errors: dict[int, dict[str, torch.Tensor]] = {}
        self._turns = turns(subject, reference_cache=True)

    def errors(self) -> dict[int, dict[str, torch.Tensor]]:
        """For each user what every module of the twin is off in the next call, [T, C] by boundary."""
        self._errors = {}
        turn = next(self._turns)
        feeding = Feeding(self._subject, self._composition, self._keep)
        with Substitution(self._subject.port_modules, feeding) as substitution:
            feeding.start(
                turn,
                {user: SoundOutputs(self._subject, self._composition, part, {}) for user, part in turn.users.items()},
            )
            substitution.start_call()
            turn.run()
            feeding.finish()
        return self._errors

    def _keep(self, output: OwnOutput | NotAlone) -> None:
        if isinstance(output, OwnOutput):
            error_TC = output.aligned.port_TC.float() - output.aligned.reference_TC.float()
            self._errors.setdefault(output.user.user, {})[output.boundary] = error_TC


class Feeding:
    """The intervention: the reference's input goes in, and what comes out is told of."""

    def __init__(
        self, subject: Subject, composition: Composition, tell: Callable[[OwnOutput | NotAlone], None]
    ) -> None:
        self._subject = subject
        self._composition = composition
        self._tell = tell
        self._layouts = {modules.pair.boundary: modules.pair.layout for modules in subject.paired}
        self._turn: Turn | None = None
        self._floors: Mapping[int, Floor] = {}
        self._outputs: dict[int, dict[str, torch.Tensor]] = {}
        self._alone: dict[str, str] = {}  # boundary → why it was not fed, or "" where it was
        self._started: dict[str, float] = {}

    def start(self, turn: Turn, floors: Mapping[int, Floor]) -> None:
        """What the next call of the port is to be fed with, and the floor of each user's part in it."""
        self._turn, self._floors = turn, floors
        self._outputs = {user: {} for user in turn.users}

    def finish(self) -> None:
        """The call is over."""
        self._turn = None
        self._outputs.clear()

    def before(self, call: PortCall) -> PortCall:
        assert self._turn is not None
        self._started[call.boundary] = time.perf_counter()
        held = call.input
        if held is None:  # ids, which both sides read alike
            return call
        try:
            changed = call.with_input(reference_input(self._turn, call.boundary, held))
        except LayoutError as error:
            self._alone[call.boundary] = str(error)
            return call
        self._alone[call.boundary] = ""
        return changed

    def after(self, call: PortCall, output: Any) -> Any:
        turn = self._turn
        assert turn is not None
        seconds = time.perf_counter() - self._started.pop(call.boundary)
        if reason := self._alone.pop(call.boundary, ""):
            self._tell(NotAlone(call.boundary, turn, f"its input is not the reference's: {reason}"))
            return output
        layout = self._layouts.get(call.boundary)
        tensor, _ = element_of(output, None if layout is None else layout.port_element, "port")
        if not is_device_tensor(tensor) or unreadable(tensor):
            self._tell(NotAlone(call.boundary, turn, unreadable(tensor) or "it gave no tensor"))
            return output
        values = read_output(tensor)
        for part in turn.users.values():
            if (known := known_call(call.boundary, part.calls)) is not None:
                self._compare(call.boundary, known, turn, part, values, seconds)
        return output

    def _compare(
        self, boundary: str, known: str, turn: Turn, part: UserTurn, values: torch.Tensor | Spread, seconds: float
    ) -> None:
        """Of the call at `boundary`, which the reference made as its call `known`."""
        outputs = self._outputs[part.user]
        parts = {name: outputs.pop(name) for name in self._composition.parts_of(known) if name in outputs}
        floor = self._floors[part.user].own(boundary, known, parts)
        layout = self._layouts[first_call_of(boundary)]
        try:
            aligned = align(floor.expected, values, layout=layout, **rows_of(turn, part))
        except LayoutError as error:
            self._tell(NotAlone(boundary, turn, str(error)))
            return
        if aligned.port_TC.numel() == floor.expected.numel():
            outputs[known] = aligned.port_TC
        for pair in self._subject.caches:  # first, as in a run: they say what the output is made of
            if pair.boundary in floor.caches:
                self._compare_cache(pair, turn, part, *floor.caches[pair.boundary])
        self._tell(OwnOutput(boundary, turn, part, aligned, _as_compared(floor, aligned), seconds, parts))

    def _compare_cache(
        self, pair: CachePair, turn: Turn, part: UserTurn, truth_1TC: torch.Tensor, floor_1TC: torch.Tensor | None
    ) -> None:
        try:
            aligned = read_cache(self._subject, pair, truth_1TC, part.row, part.start)
        except LayoutError as error:
            self._tell(NotAlone(pair.boundary, turn, str(error)))
            return
        floor_TC = None if floor_1TC is None else floor_1TC[0].float()
        self._tell(OwnOutput(pair.boundary, turn, part, aligned, floor_TC, math.nan))


def reference_input(turn: Turn, boundary: str, held: Any) -> Any:
    """A device tensor as the input of a module, with every user's rows of the reference's input in their places.

    What both sides read alike, ids or an image, comes back as it is. Raises LayoutError where the layouts do not fit,
    for a tensor on several devices, and where the reference made no such call.
    """
    values = read_output(held)
    if isinstance(values, Spread):
        raise LayoutError(f"it lies on {len(values.shards)} devices")
    for part in turn.users.values():
        known = known_call(boundary, part.calls)
        if known is None:
            raise LayoutError("the reference made no such call")
        if part.reads_inputs(known):
            return held
        values = put_into(values, part.calls[known].input, **rows_of(turn, part))
    return like(held, values)


def _as_compared(floor: OwnFloor, aligned: Aligned) -> torch.Tensor | None:
    """The floor's output where it is of the tokens and channels that were compared; None where the port gave fewer."""
    if floor.output is None or floor.output.numel() != aligned.reference_TC.numel():
        return None
    return floor.output.reshape(aligned.reference_TC.shape).float()
