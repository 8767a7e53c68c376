# SPDX-License-Identifier: Apache-2.0
"""One call of one module of the port, fed with the reference's input and recorded, beside what it should have given.

T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.exchange import places, reference_with
from tttdebug.analysis.isolated import reference_input
from tttdebug.analysis.own_floor import FloorModules
from tttdebug.analysis.port_caches import round_cache
from tttdebug.analysis.turns import Turn, UserTurn, turns
from tttdebug.analysis.twin import emulated_twin
from tttdebug.backends import is_device_tensor, to_torch, unreadable
from tttdebug.bundles.program import Program
from tttdebug.bundles.recording import ProgramRecorder, Recorded
from tttdebug.errors import BundleError, LayoutError
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.calls import known_call
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import module_at
from tttdebug.tracking.reference_calls import TorchCall, with_input
from tttdebug.tracking.spread import Spread, read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import PortCall, Substitution
from tttdebug.tracking.torch_cache import is_cache, with_forks

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, "float | None"], None]


@dataclass(frozen=True)
class WhichCall:
    """A call of a module: `step` counts decode steps, and is 0 in prefill."""

    boundary: str
    phase: str = "prefill"
    step: int = 0
    user: int = 0

    def __str__(self) -> str:
        call = self.phase if self.phase == "prefill" else f"{self.phase} {self.step}"
        return f"{self.boundary} in {call}" + (f", user {self.user}" if self.user else "")


@dataclass(frozen=True)
class Captured:
    """A recorded call of the user in a `row` of the port.

    `golden_TC` is the reference's own output for exactly the input that the program begins with, `floor_TC` what number
    formats leave of it, None where that is not known. `control` is the same call of a sound port, where one can be
    built: then the floor is its output. `places_TC` says where each value of the golden is in the program's output,
    flattened. `golden_of_first(t)` are the first t tokens of the golden where these do not depend on later ones, else
    None.
    """

    call: WhichCall
    module: str
    reference_path: str
    device: Any
    row: int
    program: Program
    golden_TC: torch.Tensor
    floor_TC: torch.Tensor | None
    control: Program | None
    places_TC: torch.Tensor
    golden_of_first: Callable[[int], torch.Tensor | None]
    notes: tuple[str, ...]


def capture(subject: Subject, call: WhichCall, progress: Progress) -> Captured:
    """Run both sides up to a call, and the module in it alone.

    Raises BundleError for a call that there was not, and for a module that cannot be run alone or written down.
    """
    first = first_call_of(call.boundary)
    pair = next((modules.pair for modules in subject.paired if modules.pair.boundary == first), None)
    if pair is None:
        _refuse_boundary(subject, call.boundary)
    assert pair is not None
    alone = _run_alone(subject, call, progress)
    twin = emulated_twin(subject)
    known = known_call(call.boundary, alone.part.calls)
    if known is None:
        raise BundleError(f"{call}: the reference made no such call")
    truth = _as_the_port_read(subject, alone, known)
    golden = truth.output_tensor if alone.given is None else truth.again()
    try:
        from_, to = places(golden, alone.values, alone.turn, alone.part, pair.layout)
    except LayoutError as error:
        raise BundleError(f"{call}: {error}") from None
    rows = len((from_ // golden.shape[-1]).unique())
    golden_TC = golden.reshape(-1)[from_].reshape(rows, -1).float()
    control: Program | None = None
    floor: torch.Tensor | None
    if twin is not None:
        sound = _run_alone(twin, call, progress)
        control, floor = sound.recorded.program, sound.values.reshape(-1)[to]
    else:
        output = FloorModules(subject, Composition(subject.paired), alone.part).own(call.boundary, known, {}).output
        floor = None if output is None else output.reshape(-1)[from_]
    return Captured(
        call=call,
        module=pair.port,
        reference_path=pair.reference,
        device=alone.device,
        row=alone.part.row,
        program=alone.recorded.program,
        golden_TC=golden_TC,
        floor_TC=None if floor is None else floor.float().reshape(golden_TC.shape),
        control=control,
        places_TC=to.reshape(golden_TC.shape),
        golden_of_first=_prefixes(truth, golden, golden_TC, call.phase),
        notes=(*alone.recorded.notes, *_of_its_own_caches(subject, alone.recorded.program)),
    )


@dataclass(frozen=True)
class _Alone:
    """What a module did alone: in which turn, and its output; `given` are the values that it was fed with."""

    turn: Turn
    part: UserTurn
    recorded: Recorded
    values: torch.Tensor
    given: torch.Tensor | None
    device: Any


def _refuse_boundary(subject: Subject, boundary: str) -> None:
    writer = next((pair.after for pair in subject.caches if pair.boundary == boundary), None)
    if writer is not None:
        raise BundleError(f"{boundary} is what {writer} writes into its cache; bundle {writer}")
    known = ", ".join(list(subject.port_modules)[:12])
    raise BundleError(f"the run has no module at {boundary!r}; it has {known}, …")


def _run_alone(subject: Subject, call: WhichCall, progress: Progress) -> _Alone:
    """Run the port up to a call, and in it the module on the reference's input."""
    for turn in turns(subject, reference_cache=True):
        progress(f"run up to {call}: {turn.phase} {turn.step + 1}", None)
        here = (turn.phase, turn.step) == (call.phase, call.step) and call.user in turn.users
        if not here:
            turn.run()
            continue
        target = subject.port_modules[first_call_of(call.boundary)]
        at_it = {name: module for name, module in subject.port_modules.items() if module is target}
        feeding = _FedAlone(subject, turn, call)
        with feeding.closing, Substitution(at_it, feeding) as substitution:
            substitution.start_call()
            turn.run()
        if feeding.done is None:
            raise BundleError(f"{call}: the port made no such call")
        return feeding.done
    raise BundleError(
        f"{call}: the run has no such call; it has {len(subject.prompts)} users and {subject.decode_steps} decode steps"
    )


class _FedAlone:
    """The intervention: the reference's input goes into one call of one module, and what it does is recorded."""

    def __init__(self, subject: Subject, turn: Turn, call: WhichCall) -> None:
        self._subject, self._turn, self._call = subject, turn, call
        self._recorder: ProgramRecorder | None = None
        self._given: Any = None
        self._given_values: torch.Tensor | None = None
        self.closing = ExitStack()
        self.done: _Alone | None = None

    def before(self, call: PortCall) -> PortCall:
        if call.boundary != self._call.boundary:
            return call
        held = call.input
        try:
            self._given = None if held is None else reference_input(self._turn, call.boundary, held)
        except LayoutError as error:
            raise BundleError(f"{self._call}: its input is not the reference's: {error}") from None
        fed = call if held is None else call.with_input(self._given)
        self._given_values = None if held is None else to_torch(self._given)
        self._recorder = ProgramRecorder(_device_of(self._subject, call))
        self._recorder.start()
        self.closing.callback(self._recorder.stop)
        return fed

    def after(self, call: PortCall, output: Any) -> Any:
        if call.boundary != self._call.boundary:
            return output
        assert self._recorder is not None
        self._recorder.stop()
        pair = next(m.pair for m in self._subject.paired if m.pair.boundary == first_call_of(call.boundary))
        tensor, _ = element_of(output, pair.layout.port_element, "port")
        if not is_device_tensor(tensor) or unreadable(tensor):
            raise BundleError(f"{self._call}: it gave {unreadable(tensor) or f'a {type(tensor).__name__}'}, no tensor")
        values = read_output(tensor)
        if isinstance(values, Spread):
            raise BundleError(f"{self._call}: its output lies on {len(values.shards)} devices")
        part = self._turn.users[self._call.user]
        module = self._subject.port_modules[first_call_of(call.boundary)]
        recorded = self._recorder.finish(tensor, module, self._given, self._caches())
        self.done = _Alone(self._turn, part, recorded, values, self._given_values, tensor.device())
        return output

    def _caches(self) -> Sequence[Any]:
        return [module_at(self._subject.port, pair.port, pair.boundary) for pair in self._subject.caches]


def _device_of(subject: Subject, call: PortCall) -> Any:
    """The device on which a module is called."""
    for value in (*call.args, *call.kwargs.values()):
        if is_device_tensor(value) and value.device() is not None:
            return value.device()
    return getattr(subject.port, "device", None)


def _as_the_port_read(subject: Subject, alone: _Alone, known: str) -> TorchCall:
    """The reference's call with the input that the port was really given, and caches in the port's number format."""
    truth = alone.part.calls[known]
    args, kwargs = with_forks(truth.args, truth.kwargs)
    cache = next(filter(is_cache, (*args, *kwargs.values())), None)
    for pair in subject.caches:
        if pair.after == known and cache is not None:
            round_cache(subject, pair, cache)
    truth = replace(truth, args=args, kwargs=kwargs)
    if alone.given is None or alone.part.reads_inputs(known):
        return truth
    read = reference_with(truth.input, alone.given, alone.turn, alone.part)
    args, kwargs = with_input(truth.args, truth.kwargs, read)
    return replace(truth, args=args, kwargs=kwargs)


def _of_its_own_caches(subject: Subject, program: Program) -> tuple[str, ...]:
    """What is to be said of caches that nobody filled with the reference's values."""
    if subject.caches or not any(leaf.role == "cache" for leaf in program.without_idle_ops().leaves.values()):
        return ()
    return (
        "the caches hold what the port itself wrote before, since it does not say where they are: an error there comes "
        "in by them",
    )


def _prefixes(
    truth: TorchCall, golden: torch.Tensor, golden_TC: torch.Tensor, phase: str
) -> Callable[[int], torch.Tensor | None]:
    """The first tokens of the golden, where other later tokens leave them as they are."""
    import torch

    def of_first(tokens: int) -> torch.Tensor | None:
        x = truth.input
        comparable = phase == "prefill" and x.is_floating_point() and golden_TC.numel() == golden.numel()
        if not comparable or golden.ndim != 3 or len(golden_TC) != x.shape[-2]:
            return None
        changed = x.clone()
        changed[..., tokens:, :] = changed[..., tokens:, :].flip(-1) + 1
        again = truth.again(changed).reshape(golden_TC.shape)[:tokens]
        return golden_TC[:tokens] if torch.allclose(again, golden_TC[:tokens], rtol=1e-4, atol=1e-5) else None

    return of_first
