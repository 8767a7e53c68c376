# SPDX-License-Identifier: Apache-2.0
"""The port's own run, recorded so that it can be made again from the middle: what came before is given, not computed.

Kept are the outputs at the level of the residual stream: of the embedding, of each layer, of the final norm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.exchange import rows_of
from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.held_output import HeldOutput, hold
from tttdebug.analysis.model_end import Apart, end_of
from tttdebug.analysis.torch_reading import reader_of
from tttdebug.analysis.turns import Turn, turns
from tttdebug.analysis.whole_reference import refuse_streamed
from tttdebug.backends import unreadable
from tttdebug.errors import AnalysisError, LayoutError, PairingError
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.layout import align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.spread import read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import Answer, Intervention, PortCall, Substitution

Progress = Callable[[str, "float | None"], None]
_LAYER = re.compile(r"^(L\d+)\.")


class Rerun(Intervention, Protocol):
    """An intervention that is told which call of the run comes next."""

    def start(self, place: int, turn: Turn) -> None: ...


@dataclass(frozen=True)
class Unit:
    """A part of the port that a run can begin after: a layer, or a module outside of all layers."""

    name: str
    boundaries: tuple[str, ...]


class FreeRun:
    """Every call of a run, made once as it was, with what is needed to make it again with some modules changed.

    `end` is where the port ends, `metric` the final metric of the port, `floor` that of the reference in the port's
    number formats over the same positions; `positions` says how many each call of each user has. `units` are the parts
    of the port in the order of execution. `answers_hold` says that the port, given its own recorded outputs up to the
    last unit, ended in the same; where it does not, every swap runs the whole port, and `notes` say so. The inputs and
    outputs of all modules of the reference stay in memory.
    """

    def __init__(self, subject: Subject, progress: Progress = lambda message, fraction: None) -> None:
        """Run the port. Raises AnalysisError where its logits, or an encoder's last outputs, cannot be compared."""
        refuse_streamed(subject.reference)
        self.subject = subject
        self.end = end_of(subject)
        self.layouts = {modules.pair.boundary: modules.pair.layout for modules in subject.paired}
        self.progress = progress
        self.measured: dict[tuple[frozenset[str], int], FinalMetric] = {}
        self.notes: tuple[str, ...] = ()
        self._recording = recording = _Recording(residual_level(subject.paired))
        self.turns: list[Turn] = []
        calls: dict[tuple[int, int], Apart] = {}
        with Substitution(subject.port_modules, self.end.listening(recording)) as substitution:
            for place, turn in enumerate(turns(subject)):
                progress(f"the port as it is: {turn.phase} {turn.step + 1}", None)
                self.turns.append(turn)
                recording.start(place, turn)
                substitution.start_call()
                calls |= {(place, user): call for user, call in self._ended(turn, turn.run()).items()}
        self.metric = self.end.metric(list(calls.values()))
        self.positions = {key: len(call) for key, call in calls.items()}
        self.floor = self._floor_metric()
        self.units = _units(recording.spans[0], recording.kept)
        self.answers_hold = self._check_answers()

    def rerun(self, intervention: Rerun, message: str) -> FinalMetric:
        """Every call again under an intervention."""
        calls: list[Apart] = []
        with Substitution(self.subject.port_modules, self.end.listening(intervention)) as substitution:
            for place, turn in self._turns_again():
                self.progress(f"{message}: {turn.phase} {turn.step + 1}", None)
                intervention.start(place, turn)
                substitution.start_call()
                calls += self._ended(turn, turn.run()).values()
        return self.end.metric(calls)

    def answer(self, place: int, boundary: str) -> Answer:
        """What a module gave in one call of the run, as an answer."""
        return Answer(self._recording.held[place][boundary].again())

    def called(self, boundary: str) -> bool:
        """Whether the port called the module at a boundary at all."""
        return any(boundary in map(first_call_of, spans) for spans in self._recording.spans)

    def untouched_by(self, swapped: frozenset[str], *, afterwards: bool = False) -> frozenset[str]:
        """The recorded modules that end before any of `swapped` starts, in every call; their outputs are known.

        `afterwards`: also those that start when all of them have ended.
        """
        if not self.answers_hold:
            return frozenset()
        found = self._always_held()
        for spans in self._recording.spans:
            of_swapped = [span for name, span in spans.items() if first_call_of(name) in swapped]
            if of_swapped:
                first, last = min(start for start, _ in of_swapped), max(end for _, end in of_swapped)
                found -= {
                    name for name, (start, end) in spans.items() if not (end < first or (afterwards and start > last))
                }
        return frozenset(found)

    def before_unit(self, cut: int) -> frozenset[str]:
        """The modules of the units before one, all of whose outputs are known.

        Raises AnalysisError where they are not.
        """
        wanted = {boundary for unit in self.units[:cut] for boundary in unit.boundaries}
        held = {first_call_of(name) for name in self._always_held()}
        if cut and (not self.answers_hold or wanted - held):
            missing = ", ".join(sorted(wanted - held)) or self.notes[-1]
            raise AnalysisError(
                f"the port cannot be begun at {self.units[cut].name}, since what comes before cannot be given to it: "
                f"{missing}; swap modules by name instead"
            )
        return frozenset(wanted)

    def _always_held(self) -> set[str]:
        """The calls of modules whose output was kept whenever they were made."""
        recording = self._recording
        names = {name for held in recording.held for name in held}
        return names - {
            name for spans, held in zip(recording.spans, recording.held, strict=True) for name in spans.keys() - held
        }

    def _turns_again(self) -> Iterator[tuple[int, Turn]]:
        prompts, driver = self.subject.prompts, self.subject.driver
        places = iter(enumerate(self.turns))
        upcoming = next(places, None)
        for group in driver.groups(len(prompts)):
            driver.start(len(group), max(len(prompts[user].inputs) for user in group) + self.subject.decode_steps)
            while upcoming is not None and set(upcoming[1].users) <= set(group):
                yield upcoming
                upcoming = next(places, None)

    def _ended(self, turn: Turn, returned: Any) -> dict[int, Apart]:
        """How far from the reference's each user's end of a call is that was just made."""
        found: dict[int, Apart] = {}
        end = self.end
        try:
            tensor, _ = element_of(end.of_call(returned), end.layout.port_element, "port")
            if reason := unreadable(tensor):
                raise LayoutError(reason)
            values = read_output(tensor)
            for user, part in turn.users.items():
                aligned = align(part.end_TV, values, layout=end.layout, **rows_of(turn, part))
                found[user] = end.apart(aligned.reference_TC, aligned.port_TC)
        except (LayoutError, PairingError) as error:
            raise AnalysisError(
                f"what a swap changes is measured by the port's {end.what}, which cannot be compared in {turn.phase} "
                f"{turn.step + 1}: {error}; {end.remedy}"
            ) from error
        return found

    def _floor_metric(self) -> FinalMetric:
        """The metric of the reference in the port's number formats, over the positions that the port gave."""
        import torch

        reader = reader_of(self.subject, self.subject.floor, self.subject.floor_modules)
        caches: dict[int, Any] = {}
        calls = []
        with torch.no_grad():
            for place, turn in enumerate(self.turns):
                for user, part in turn.users.items():
                    reading = reader.read(part.inputs, caches[user] if part.start else reader.going_on(None))
                    caches[user] = reading.cache
                    last = self.positions[place, user]
                    calls.append(self.end.apart(part.end_TV[-last:], reading.end_TV[-last:].float()))
        return self.end.metric(calls)

    def _check_answers(self) -> bool:
        """Whether the port goes on from its recorded outputs as it did from its own."""
        if len(self.units) < 2:
            self.notes = ("only one part of the port was compared that lies in no other, so nothing comes before it",)
            return False
        last = set(self.units[-1].boundaries)
        answers = frozenset(name for name in self._always_held() if first_call_of(name) not in last)
        again = self.rerun(_Answering(self, answers), "from recorded outputs")
        if again != self.metric:
            self.notes = (
                f"given its own outputs of all but {self.units[-1].name} again, the port ended otherwise ({again}; "
                f"before {self.metric}): it is not repeatable, or hands values on past its modules' outputs",
            )
        return again == self.metric


class _Recording:
    """The intervention that changes nothing and keeps outputs, and when each module started and ended."""

    def __init__(self, kept: frozenset[str]) -> None:
        self.kept = kept
        self.spans: list[dict[str, tuple[int, int]]] = []
        self.held: list[dict[str, HeldOutput]] = []
        self._time = 0

    def start(self, place: int, turn: Turn) -> None:
        self.spans.append({})
        self.held.append({})

    def before(self, call: PortCall) -> PortCall:
        self._time += 1
        self.spans[-1][call.boundary] = (self._time, self._time)
        return call

    def after(self, call: PortCall, output: Any) -> Any:
        self._time += 1
        self.spans[-1][call.boundary] = (self.spans[-1][call.boundary][0], self._time)
        in_place = any(value is output for value in (*call.args, *call.kwargs.values()))
        if first_call_of(call.boundary) in self.kept and not in_place and (held := hold(output)) is not None:
            self.held[-1][call.boundary] = held
        return output


class _Answering:
    """The intervention that gives recorded outputs."""

    def __init__(self, run: FreeRun, answers: frozenset[str]) -> None:
        self._run, self._answers = run, answers
        self._place = 0

    def start(self, place: int, turn: Turn) -> None:
        self._place = place

    def before(self, call: PortCall) -> PortCall | Answer:
        return self._run.answer(self._place, call.boundary) if call.boundary in self._answers else call

    def after(self, call: PortCall, output: Any) -> Any:
        return output


def residual_level(paired: Sequence[PairedModules]) -> frozenset[str]:
    """The boundaries that lie in no other module of their layer, and hold no layers themselves."""
    holders = Composition(paired).holders

    def around(boundary: str) -> Iterator[str]:
        holder = holders[boundary]
        while holder is not None:
            yield holder
            holder = holders[holder]

    holding_layers = {
        holder for boundary in holders for holder in around(boundary) if layer_of(holder) != layer_of(boundary)
    }
    return frozenset(
        boundary
        for boundary in holders
        if boundary not in holding_layers
        and not (layer_of(boundary) and any(layer_of(holder) == layer_of(boundary) for holder in around(boundary)))
    )


def layer_of(boundary: str) -> str | None:
    """`L07` of `L07.mlp`; None for a module outside of all layers."""
    match = _LAYER.match(boundary)
    return match[1] if match else None


def _units(spans: Mapping[str, tuple[int, int]], kept: frozenset[str]) -> tuple[Unit, ...]:
    """The units that one call went through, in the order of their start."""
    by_name: dict[str, dict[str, None]] = {}
    for name in sorted(spans, key=lambda name: spans[name]):
        boundary = first_call_of(name)
        if boundary in kept:
            by_name.setdefault(layer_of(boundary) or boundary, {})[boundary] = None
    return tuple(Unit(name, tuple(boundaries)) for name, boundaries in by_name.items())
