# SPDX-License-Identifier: Apache-2.0
"""Comparing while the port runs: each output against the reference's, the moment the module returns it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.gates import Gate, default_gate, judge
from tttdebug.tracking.layout import Aligned, align, align_cache
from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.pairing import CachePair, PairedModules, module_at
from tttdebug.tracking.record import Record, metrics_of, without_metrics

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.writer import RunWriter


@dataclass(frozen=True)
class UserCall:
    """One user's part in a call: the tokens it reads, where they start, and what the reference gave for them."""

    token_ids: Sequence[int]
    start: int
    activations: Mapping[str, torch.Tensor]
    floors: Mapping[str, float]


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


class Comparer:
    """Turns the outputs of the port's modules into records of a run."""

    def __init__(
        self, port: Any, paired: Sequence[PairedModules], caches: Sequence[CachePair], writer: RunWriter, engine: str
    ) -> None:
        self._port = port
        self._paired = {modules.pair.boundary: modules for modules in paired}
        self._caches: dict[str, list[CachePair]] = {}
        for pair in caches:
            self._caches.setdefault(pair.after, []).append(pair)
        self._writer = writer
        self._engine = engine
        self._call: Call | None = None
        self._missing: dict[str, str] = {}  # boundary → the path in the port that should have given it

    @property
    def call(self) -> Call | None:
        """The call of the port that is going on."""
        return self._call

    def expect(self, call: Call) -> None:
        """Say what the next call of the port is to be compared with."""
        self._call = call
        self._missing = {boundary: modules.pair.port for boundary, modules in self._paired.items()}
        self._missing |= {pair.boundary: pair.port for pairs in self._caches.values() for pair in pairs}

    def settle(self) -> None:
        """After the call: whatever was expected and did not come is written down as skipped, never passed over."""
        for boundary, path in self._missing.items():
            for user in self._call.users if self._call else ():
                self._skip(boundary, user, f"the port did not use {path} in this call")
        self._call = None

    def on_output(self, boundary: str, output: Any, seconds: float) -> None:
        """Compare one output, and the caches its module filled, with every user's reference."""
        if self._call is None:  # the port decodes on its own
            return
        if self._missing.pop(boundary, None) is None:
            self._writer.note(
                f"{boundary}: the port used this module again within a call; its first output was compared"
            )
            return
        for pair in self._caches.get(boundary, ()):
            self._missing.pop(pair.boundary)
            cache = module_at(self._port, pair.port, pair.boundary)
            reference_path = f"{self._paired[boundary].pair.reference} ({pair.part} in its cache)"
            written = Output(pair.boundary, pair.port, reference_path, to_torch(cache), _dtype_name(cache), math.nan)
            for user, part in self._call.users.items():
                align_to = partial(
                    align_cache,
                    user=user,
                    start=part.start,
                    interleaved=pair.interleaved,
                    rotary_dim=pair.rotary_dim,
                )
                self._compare(user, part, written, align_to)
        paths, tensor = self._paired[boundary].pair, _main_tensor(output)
        returned = Output(boundary, paths.port, paths.reference, to_torch(tensor), _dtype_name(tensor), seconds)
        for user, part in self._call.users.items():
            self._compare(user, part, returned, partial(align, phase=self._call.phase, user=user))

    def _compare(
        self, user: int, part: UserCall, output: Output, align_to: Callable[[torch.Tensor, torch.Tensor], Aligned]
    ) -> None:
        assert self._call is not None
        if output.boundary not in part.activations:
            self._skip(output.boundary, user, f"the reference did not use {output.reference_path} in this call")
            return
        floor = part.floors.get(output.boundary, math.nan)
        about: dict[str, Any] = {
            "boundary": output.boundary,
            "mode": "accumulated",
            "phase": self._call.phase,
            "step": self._call.step,
            "user": user,
            "floor_rel_l2": floor,
            "module": output.module,
            "reference_path": output.reference_path,
            "dtype": output.dtype,
            "engine": self._engine,
            "seconds": output.seconds,
        }
        try:
            aligned = align_to(part.activations[output.boundary], output.values)
        except LayoutError as error:
            nothing = without_metrics(tuple(output.values.shape))
            self._writer.append(Record(**about, **nothing, verdict="shape_mismatch", adapters=(), note=str(error)))
            return
        comparison = compare(aligned.reference_TC, aligned.port_TC)
        judgement = judge(comparison, self._gate(output.boundary, comparison.shape[0]), floor)
        note = "; ".join((*judgement.missed, *filter(None, [comparison.note])))
        metrics = metrics_of(comparison)
        record = Record(**about, **metrics, verdict=judgement.verdict, adapters=aligned.adapters, note=note)
        self._writer.append(record, comparison.profile)
        self._writer.offer_tensors(record, aligned.reference_TC, aligned.port_TC)

    def _gate(self, boundary: str, tokens: int) -> Gate:
        assert self._call is not None
        modules = self._paired.get(boundary)
        formats = getattr(modules.port, "weight_formats", {}) if modules else {}
        dtypes = {weight_format.dtype for weight_format in formats.values()}
        return default_gate(boundary, self._call.phase, dtypes, tokens)

    def _skip(self, boundary: str, user: int, reason: str) -> None:
        assert self._call is not None
        self._writer.skip(Skipped(boundary, self._call.phase, self._call.step, user, reason))


def _main_tensor(output: Any) -> Any:
    """The output itself, or the first tensor of a tuple or list."""
    import torch

    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, torch.Tensor) or is_device_tensor(part)), output)
    return output


def _dtype_name(tensor: Any) -> str:
    return str(getattr(tensor, "dtype", "")).rpartition(".")[2].lower()
