# SPDX-License-Identifier: Apache-2.0
"""Comparing while the port runs: each output against the reference's, the moment the module returns it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.backends import UNKNOWN, describe_device, device_of, is_device_tensor, unreadable
from tttdebug.backends.readback import MOCK
from tttdebug.errors import LayoutError
from tttdebug.tracking.call_arguments import CallArguments
from tttdebug.tracking.call_numbers import first_call_of, name_of_call
from tttdebug.tracking.calls import Call, UserCall, contradictions, is_of_one_prompt, known_call, repeated
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.gates import Gate, default_gate, is_near, judge
from tttdebug.tracking.hooks import at_same_object
from tttdebug.tracking.layout import Aligned, align, align_cache
from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import AS_IT_IS, CachePair, Pair, PairedModules, PairLayout, module_at
from tttdebug.tracking.part_errors import with_parts
from tttdebug.tracking.record import FAILING_VERDICTS, Record, metrics_of, without_metrics
from tttdebug.tracking.rounding_draws import with_scatter
from tttdebug.tracking.spread import Spread, read_output

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.writer import RunWriter

LOGITS = "logits"
_TOLD = ("entry", "user", "positions", "chunk_start", "batch_size", "rotary", "within")


@dataclass(frozen=True)
class Output:
    """What the port gave at one boundary."""

    boundary: str
    module: str
    reference_path: str
    values: torch.Tensor | Spread
    dtype: str
    seconds: float
    note: str = ""
    adapters: tuple[str, ...] = ()
    layout: PairLayout = AS_IT_IS
    is_keys: bool = False


class Comparer:
    """Turns the outputs of the port's modules into records of a run."""

    def __init__(
        self, port: Any, paired: Sequence[PairedModules], caches: Sequence[CachePair], writer: RunWriter
    ) -> None:
        self._port = port
        self._paired = {modules.pair.boundary: modules for modules in paired}
        same = at_same_object({boundary: modules.port for boundary, modules in self._paired.items()})
        self._boundaries = {boundaries[0]: boundaries for _, boundaries in same}  # that one object stands at
        self._caches: dict[str, list[CachePair]] = {}
        for pair in caches:
            self._caches.setdefault(pair.after, []).append(pair)
        self._writer = writer
        self._whole: Call | None = None
        self._call: Call | None = None  # the whole, or one prompt's pass of it
        self._first: str | None = None  # the object that was heard first
        self._waiting: list[int] = []  # users whose passes are still to come
        self._missing: dict[str, str] = {}  # boundary → the path in the port that should have given it
        self._heard: dict[str, int] = {}  # first boundary of an object → its calls within this one
        self._arguments: dict[str, CallArguments] = {}
        self._diverged = False  # something has: luck no longer decides, so that no floor is drawn again

    @property
    def call(self) -> Call | None:
        """The call of the port that is going on."""
        return self._call

    def expect(self, call: Call) -> None:
        """Say what the next call of the port is to be compared with."""
        self._whole, self._first, self._waiting = call, None, []
        self._begin(call)
        self._writer.expect_more(len(repeated(call)) * len(call.users))

    def _begin(self, call: Call) -> None:
        self._call = call
        self._heard = dict.fromkeys(self._boundaries, 0)
        self._missing = {boundary: modules.pair.port for boundary, modules in self._paired.items()}
        self._missing |= {pair.boundary: pair.port for pairs in self._caches.values() for pair in pairs}
        self._missing |= {name: self._paired[first_call_of(name)].pair.port for name in repeated(call)}

    def settle(self) -> None:
        """After the call: whatever was expected and did not come is written down as skipped, never passed over."""
        self._write_missing()
        while self._waiting:
            self._begin_next_pass()
            self._write_missing()
        self._call = self._whole = None

    def _write_missing(self) -> None:
        shared = {name: names for names in self._boundaries.values() for name in names}
        for boundary, path in self._missing.items():
            names = shared.get(first_call_of(boundary), [boundary])
            reason = f"the port did not use {path} in this call"
            if calls := self._heard.get(names[0], 0):
                reason = f"the port used {path}, which stands at {', '.join(names)}, {calls} times only in this call"
            for user in self._call.users if self._call else ():
                self._skip(boundary, user, reason)

    def on_call(self, boundary: str, arguments: CallArguments) -> None:
        """Keep what a module is told about the call that it is in, until its output comes."""
        self._arguments[boundary] = arguments

    def on_output(self, boundary: str, output: Any, seconds: float) -> None:
        """Compare one output, and the caches its module filled, with every user's reference.

        `boundary` is the first of those that the object stands at; which call it is decides about the boundary here.
        """
        if self._call is None:  # the port decodes on its own
            return
        self._follow_passes(boundary, output)
        boundaries, number = self._boundaries[boundary], self._heard[boundary]
        self._heard[boundary] += 1
        arguments = self._arguments.pop(boundary, None)
        for name in self._names_of_call(boundaries, number):
            self._compare_output(name, output, seconds, number, arguments)

    def _follow_passes(self, boundary: str, output: Any) -> None:
        """A port may read the prompts of one prefill one after the other. Its first output is then one prompt's, and
        each further call of the module that gave it begins the next prompt's pass.
        """
        assert self._call is not None
        if self._first is None:
            self._first = boundary
            if is_of_one_prompt(output, self._call):
                self._waiting = list(self._call.users)
                self._begin_next_pass()
        elif self._waiting and boundary == self._first:
            (part,) = self._call.users.values()
            of_a_pass = sum(first_call_of(name) in self._boundaries[boundary] for name in part.activations)
            if self._heard[boundary] >= of_a_pass:
                self._write_missing()
                self._begin_next_pass()

    def _begin_next_pass(self) -> None:
        assert self._whole is not None
        user = self._waiting.pop(0)
        self._begin(replace(self._whole, users={user: self._whole.users[user]}))

    def _names_of_call(self, boundaries: Sequence[str], number: int) -> list[str]:
        """The boundaries that a call of their object is compared at: one, or all that are parts of one output."""
        layouts = [self._paired[boundary].pair.layout for boundary in boundaries]
        if len(boundaries) > 1 and all(layout.port_columns or layout.port_element is not None for layout in layouts):
            return [name_of_call([boundary], number) for boundary in boundaries]
        return [name_of_call(boundaries, number)]

    def _compare_output(
        self, name: str, output: Any, seconds: float, number: int, arguments: CallArguments | None
    ) -> None:
        assert self._call is not None
        pair = self._paired[first_call_of(name)].pair
        note = self._write_arguments(name, pair, number, arguments)
        if self._missing.pop(name, None) is None:
            self._writer.expect_more(len(self._call.users))
        if name in self._caches:
            self._compare_caches(name, pair)
        tensor, taken = element_of(output, pair.layout.port_element, "port")
        if reason := self._why_skipped(pair.port, tensor):
            for user in self._call.users:
                self._skip(name, user, reason)
            return
        values, dtype = read_output(tensor), _dtype_name(tensor)
        self._compare_users(
            Output(name, pair.port, pair.reference, values, dtype, seconds, note, taken, pair.layout), self._call
        )

    def on_returned(self, output: Any, seconds: float, *, compared: bool) -> torch.Tensor | Spread | None:
        """What the whole port returned, compared as its logits where asked for; None when it cannot be read."""
        assert self._whole is not None
        (tensor, taken), path = element_of(output, None, "port"), f"the {self._whole.phase} of the port"
        if reason := self._why_skipped(path, tensor):
            for user in self._whole.users:
                self._skip(LOGITS, user, reason)
            self._writer.expect_more(0 if compared else len(self._whole.users))
            return None
        values, dtype = read_output(tensor), _dtype_name(tensor)
        returned = Output(LOGITS, path, "the model's logits", values, dtype, seconds, adapters=taken)
        if compared:
            self._compare_users(returned, self._whole)
        return returned.values

    def _why_skipped(self, path: str, output: Any) -> str:
        """Why what stands at `path` in the port gave nothing that can be compared, or ""."""
        import torch

        if is_device_tensor(output):
            if not output.is_allocated():
                return f"{path} returned a tensor {tuple(output.shape)} that it had freed already"
            note_device(self._writer, output)
        elif not isinstance(output, torch.Tensor):
            return f"{path} returned {type(output).__name__} without a tensor"
        if self._writer.manifest.device.get("runs_on") == MOCK:  # also what the port read back from it by itself
            return MOCK
        return unreadable(output) or ""

    def cannot_agree(self, user: int, error: LayoutError) -> None:
        """Write down that a user's returned logits could not be set beside the reference's."""
        self._skip(LOGITS, user, f"tokens: {error}")
        self._writer.expect_more(1)

    def _compare_users(self, output: Output, call: Call) -> None:
        for user, part in call.users.items():
            align_to = partial(
                align,
                phase=call.phase,
                user=part.row,
                users=call.read_together,
                tokens=len(part.token_ids) or None,
                layout=output.layout,
            )
            self._compare(user, part, output, align_to)

    def _compare_caches(self, boundary: str, after: Pair) -> None:
        assert self._call is not None
        for pair in self._caches[boundary]:
            self._missing.pop(pair.boundary)
            cache = module_at(self._port, pair.port, pair.boundary)
            if reason := self._why_skipped(pair.port, cache):
                for user in self._call.users:
                    self._skip(pair.boundary, user, reason)
                continue
            reference_path = f"{after.reference} ({pair.part} in its cache)"
            written = Output(
                pair.boundary,
                pair.port,
                reference_path,
                read_output(cache),
                _dtype_name(cache),
                math.nan,
                is_keys=pair.part == "keys",
            )
            for user, part in self._call.users.items():
                align_to = partial(
                    align_cache,
                    user=part.row,
                    start=part.start,
                    interleaved=pair.interleaved,
                    rotary_dim=pair.rotary_dim,
                )
                self._compare(user, part, written, align_to)

    def _write_arguments(self, boundary: str, pair: Pair, number: int, arguments: CallArguments | None) -> str:
        """Write down what the module was told of its call. Gives what contradicts the call that was made, or ""."""
        assert self._call is not None
        if arguments is None:
            return ""
        about = {"boundary": boundary, "module": pair.port, "phase": self._call.phase, "step": self._call.step}
        told = {"mode": arguments.phase, **{name: getattr(arguments, name) for name in _TOLD}}
        pages = arguments.page_table or ()  # those of this call's users: all of them in each line would be most of it
        told["page_table"] = [pages[part.row] for part in self._call.users.values() if part.row < len(pages)] or None
        self._writer.append_call({**about, "call": number + 1, **told})
        return "; ".join(contradictions(arguments, self._call))

    def _compare(
        self,
        user: int,
        part: UserCall,
        output: Output,
        align_to: Callable[[torch.Tensor, torch.Tensor | Spread], Aligned],
    ) -> None:
        assert self._call is not None
        known = known_call(output.boundary, part.activations)
        if known is None:
            again = "so often " if first_call_of(output.boundary) in part.activations else ""
            self._skip(output.boundary, user, f"the reference did not use {output.reference_path} {again}in this call")
            return
        floor, expected = part.floors.get(known), part.activations[known]
        alone = "" if known == output.boundary else "beside the only call that the reference makes"
        about: dict[str, Any] = {
            "boundary": output.boundary,
            "mode": "accumulated",
            "phase": self._call.phase,
            "step": self._call.step,
            "user": user,
            "floor_rel_l2": math.nan if floor is None else floor.of_prompt(expected.numel() // expected.shape[-1]),
            "module": output.module,
            "reference_path": output.reference_path,
            "dtype": output.dtype,
            "engine": self._writer.manifest.device["engine"],
            "seconds": output.seconds,
        }
        try:
            aligned = align_to(expected, output.values)
        except LayoutError as error:
            nothing = without_metrics(tuple(output.values.shape))
            note = _joined(str(error), alone, output.note)
            self._writer.append(Record(**about, **nothing, verdict="shape_mismatch", adapters=(), note=note))
            return
        comparison = compare(aligned.reference_TC, aligned.port_TC)
        if floor is not None:  # of what was compared: a port may give the last token only
            about["floor_rel_l2"] = floor.of_prompt(comparison.shape[0])
        gate = self._gate(output.boundary, comparison.shape[0])
        judgement = judge(comparison, gate, about["floor_rel_l2"])
        redrawn = ""
        if judgement.verdict == "diverged" and not self._diverged and is_near(comparison, about["floor_rel_l2"]):
            once, drawn = about["floor_rel_l2"], [draw[known].of_prompt(comparison.shape[0]) for draw in part.draws()]
            about["floor_rel_l2"] = with_scatter(once, drawn)
            judgement = judge(comparison, gate, about["floor_rel_l2"])
            redrawn = f"the floor was {once:.3g} in one draw of its roundings, {len(drawn)} more widen it"
        note = _joined(*aligned.faults, *judgement.missed, redrawn, comparison.note, alone, output.note)
        metrics = metrics_of(comparison)
        passes = judgement.verdict not in FAILING_VERDICTS
        verdict = "diverged" if aligned.faults and passes else judgement.verdict
        self._diverged |= verdict in FAILING_VERDICTS
        adapters = (*part.adapters.get(known, ()), *output.adapters, *aligned.adapters)
        record = Record(**about, **metrics, verdict=verdict, adapters=adapters, note=note)
        self._writer.append(record, with_parts(comparison.profile, aligned, keys=output.is_keys))
        self._writer.offer_tensors(record, aligned.reference_TC, aligned.port_TC)

    def _gate(self, boundary: str, tokens: int) -> Gate:
        assert self._call is not None
        modules = self._paired.get(first_call_of(boundary))
        formats = getattr(modules.port, "weight_formats", {}) if modules else {}
        dtypes = {weight_format.dtype for weight_format in formats.values()}
        return default_gate(boundary, self._call.phase, dtypes, tokens)

    def _skip(self, boundary: str, user: int, reason: str) -> None:
        assert self._call is not None
        self._writer.skip(Skipped(boundary, self._call.phase, self._call.step, user, reason))


def note_device(writer: RunWriter, output: Any) -> None:
    """A port need not say what it runs on: its first output does."""
    if writer.manifest.device["engine"] == UNKNOWN.engine and (device := device_of(output)) is not None:
        writer.manifest = replace(writer.manifest, device=describe_device(device).to_json())


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _dtype_name(tensor: Any) -> str:
    return str(getattr(tensor, "dtype", "")).rpartition(".")[2].lower()
