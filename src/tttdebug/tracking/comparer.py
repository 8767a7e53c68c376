# SPDX-License-Identifier: Apache-2.0
"""Comparing while the port runs: each output against the reference's, the moment the module returns it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.backends import UNKNOWN, describe_device, device_of, is_device_tensor, to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.call_arguments import CallArguments
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.floor import FloorError
from tttdebug.tracking.gates import Gate, default_gate, judge
from tttdebug.tracking.hooks import at_same_object, first_call_of, name_of_call
from tttdebug.tracking.layout import Aligned, align, align_cache
from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.pairing import CachePair, Pair, PairedModules, module_at
from tttdebug.tracking.record import Record, metrics_of, without_metrics

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.writer import RunWriter

LOGITS = "logits"
_TOLD = ("entry", "user", "positions", "page_table", "chunk_start", "batch_size", "rotary", "within")


@dataclass(frozen=True)
class UserCall:
    """One user's part in a call: the tokens it reads, where they start, and what the reference gave for them.

    `row` is the user's slot in the port, which counts anew where the port takes one prompt at a time.
    """

    token_ids: Sequence[int]
    start: int
    activations: Mapping[str, torch.Tensor]
    floors: Mapping[str, FloorError]
    row: int = 0


@dataclass(frozen=True)
class Call:
    """One call of the port, with all users in it."""

    phase: str
    step: int
    users: Mapping[int, UserCall]


@dataclass(frozen=True)
class Output:
    """What the port gave at one boundary."""

    boundary: str
    module: str
    reference_path: str
    values: torch.Tensor
    dtype: str
    seconds: float
    note: str = ""


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
        self._call: Call | None = None
        self._missing: dict[str, str] = {}  # boundary → the path in the port that should have given it
        self._heard: dict[str, int] = {}  # first boundary of an object → its calls within this one
        self._arguments: dict[str, CallArguments] = {}

    @property
    def call(self) -> Call | None:
        """The call of the port that is going on."""
        return self._call

    def expect(self, call: Call) -> None:
        """Say what the next call of the port is to be compared with."""
        self._call = call
        self._heard = dict.fromkeys(self._boundaries, 0)
        self._missing = {boundary: modules.pair.port for boundary, modules in self._paired.items()}
        self._missing |= {pair.boundary: pair.port for pairs in self._caches.values() for pair in pairs}
        again = {name for part in call.users.values() for name in part.activations if first_call_of(name) != name}
        self._missing |= {name: self._paired[first_call_of(name)].pair.port for name in again}
        self._writer.expect_more(len(again) * len(call.users))

    def settle(self) -> None:
        """After the call: whatever was expected and did not come is written down as skipped, never passed over."""
        shared = {name: names for names in self._boundaries.values() for name in names}
        for boundary, path in self._missing.items():
            names = shared.get(first_call_of(boundary), [boundary])
            reason = f"the port did not use {path} in this call"
            if calls := self._heard.get(names[0], 0):
                reason = f"the port used {path}, which stands at {', '.join(names)}, {calls} times only in this call"
            for user in self._call.users if self._call else ():
                self._skip(boundary, user, reason)
        self._call = None

    def on_call(self, boundary: str, arguments: CallArguments) -> None:
        """Keep what a module is told about the call, and say where it is not the call that was made."""
        self._arguments[boundary] = arguments

    def on_output(self, boundary: str, output: Any, seconds: float) -> None:
        """Compare one output, and the caches its module filled, with every user's reference.

        `boundary` is the first of those that the object stands at; which call it is decides about the boundary here.
        """
        if self._call is None:  # the port decodes on its own
            return
        boundaries, number = self._boundaries[boundary], self._heard[boundary]
        self._heard[boundary] += 1
        name = name_of_call(boundaries, number)
        pair = self._paired[first_call_of(name)].pair
        note = self._write_arguments(name, pair, number, self._arguments.pop(boundary, None))
        if self._missing.pop(name, None) is None:
            self._writer.expect_more(len(self._call.users))
        if name in self._caches:
            self._compare_caches(name, pair)
        tensor = _main_tensor(output)
        if reason := _unreadable(tensor):
            for user in self._call.users:
                self._skip(name, user, f"{pair.port} {reason}")
            return
        note_device(self._writer, tensor)
        returned = Output(name, pair.port, pair.reference, to_torch(tensor), _dtype_name(tensor), seconds, note)
        self._compare_users(returned)

    def on_returned(self, output: Any, seconds: float, *, compared: bool) -> torch.Tensor | None:
        """What the whole port returned, compared as its logits where asked for; None when it cannot be read."""
        assert self._call is not None
        tensor, path = _main_tensor(output), f"the {self._call.phase} of the port"
        if reason := _unreadable(tensor):
            for user in self._call.users:
                self._skip(LOGITS, user, f"{path} {reason}")
            self._writer.expect_more(0 if compared else len(self._call.users))
            return None
        note_device(self._writer, tensor)
        returned = Output(LOGITS, path, "the model's logits", to_torch(tensor), _dtype_name(tensor), seconds)
        if compared:
            self._compare_users(returned)
        return returned.values

    def cannot_agree(self, user: int, error: LayoutError) -> None:
        """Write down that a user's returned logits could not be set beside the reference's."""
        self._skip(LOGITS, user, f"tokens: {error}")
        self._writer.expect_more(1)

    def _compare_users(self, output: Output) -> None:
        assert self._call is not None
        for user, part in self._call.users.items():
            self._compare(user, part, output, partial(align, phase=self._call.phase, user=part.row))

    def _compare_caches(self, boundary: str, after: Pair) -> None:
        assert self._call is not None
        for pair in self._caches[boundary]:
            self._missing.pop(pair.boundary)
            cache = module_at(self._port, pair.port, pair.boundary)
            reference_path = f"{after.reference} ({pair.part} in its cache)"
            written = Output(pair.boundary, pair.port, reference_path, to_torch(cache), _dtype_name(cache), math.nan)
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
        self._writer.append_call({**about, "call": number + 1, **told})
        return "; ".join(_contradictions(arguments, self._call))

    def _compare(
        self, user: int, part: UserCall, output: Output, align_to: Callable[[torch.Tensor, torch.Tensor], Aligned]
    ) -> None:
        assert self._call is not None
        if output.boundary not in part.activations:
            first = first_call_of(output.boundary)
            again = "so often " if first != output.boundary and first in part.activations else ""
            self._skip(output.boundary, user, f"the reference did not use {output.reference_path} {again}in this call")
            return
        floor = part.floors.get(output.boundary)
        expected = part.activations[output.boundary]
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
            self._writer.append(Record(**about, **nothing, verdict="shape_mismatch", adapters=(), note=_joined(str(error), output.note)))
            return
        comparison = compare(aligned.reference_TC, aligned.port_TC)
        if floor is not None:  # of what was compared: a port may give the last token only
            about["floor_rel_l2"] = floor.of_prompt(comparison.shape[0])
        judgement = judge(comparison, self._gate(output.boundary, comparison.shape[0]), about["floor_rel_l2"])
        note = _joined(*judgement.missed, comparison.note, output.note)
        metrics = metrics_of(comparison)
        record = Record(**about, **metrics, verdict=judgement.verdict, adapters=aligned.adapters, note=note)
        self._writer.append(record, comparison.profile)
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
        writer.manifest = replace(writer.manifest, device=asdict(describe_device(device)))


def _contradictions(arguments: CallArguments, call: Call) -> list[str]:
    """What a module was told that is not so: another phase, or in a decode step another position of a user."""
    said = []
    if arguments.phase not in ("", call.phase):
        said.append(f"the port ran {arguments.entry} for {arguments.phase} in a {call.phase}")
    if call.phase == "decode" and arguments.positions is not None:
        for part in call.users.values():
            told = _of_row(arguments.positions, part.row)
            if told != part.start:
                said.append(f"the module was told position {told} of row {part.row}, the step is at {part.start}")
    return said


def _of_row(positions: tuple[int, ...], row: int) -> int | None:
    """A single position is that of all users."""
    return positions[0] if len(positions) == 1 else positions[row] if row < len(positions) else None


def _unreadable(output: Any) -> str:
    """Why an output cannot be compared, or ""."""
    import torch

    if isinstance(output, torch.Tensor):
        return ""
    if not is_device_tensor(output):
        return f"returned {type(output).__name__} without a tensor"
    return "" if output.is_allocated() else f"returned a tensor {tuple(output.shape)} that it had freed already"


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _main_tensor(output: Any) -> Any:
    """The output itself, or the first tensor of a tuple or list."""
    import torch

    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, torch.Tensor) or is_device_tensor(part)), output)
    return output


def _dtype_name(tensor: Any) -> str:
    return str(getattr(tensor, "dtype", "")).rpartition(".")[2].lower()
