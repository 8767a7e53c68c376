# SPDX-License-Identifier: Apache-2.0
"""Comparing while the port runs: each output against the reference's, the moment the module returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.gates import default_gate, judge
from tttdebug.tracking.layout import align
from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.record import Record, metrics_of, without_metrics

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.writer import RunWriter


@dataclass(frozen=True)
class Expected:
    """What one call of the port should give: for each user in it, the reference's activations and their floors."""

    phase: str
    step: int
    activations: Mapping[int, Mapping[str, torch.Tensor]]
    floors: Mapping[int, Mapping[str, float]]


class Comparer:
    """Turns the outputs of the port's modules into records of a run."""

    def __init__(self, paired: list[PairedModules], writer: RunWriter, engine: str) -> None:
        self._paired = {modules.pair.boundary: modules for modules in paired}
        self._gates: dict[tuple[str, str], Any] = {}
        self._writer = writer
        self._engine = engine
        self._expected: Expected | None = None
        self._seen: set[str] = set()

    def expect(self, expected: Expected) -> None:
        """Say what the next call of the port is to be compared with."""
        self._expected, self._seen = expected, set()

    def settle(self) -> None:
        """After the call: whatever was expected and did not come is written down as skipped, never passed over."""
        assert self._expected is not None
        for boundary in self._paired.keys() - self._seen:
            for user in self._expected.activations:
                self._skip(boundary, user, f"the port did not call {self._paired[boundary].pair.port} in this call")
        self._expected = None

    def on_output(self, boundary: str, output: Any, seconds: float) -> None:
        """Compare one output with every user's reference. Outside of an expected call it does nothing."""
        expected = self._expected
        if expected is None:
            return
        if boundary in self._seen:
            self._writer.note(
                f"{boundary}: the port called this module more than once in a call; the first output was compared"
            )
            return
        self._seen.add(boundary)
        tensor = _main_tensor(output)
        dtype = str(getattr(tensor, "dtype", "")).rpartition(".")[2].lower()
        port = to_torch(tensor)
        for user, activations in expected.activations.items():
            if boundary not in activations:
                self._skip(
                    boundary, user, f"the reference did not call {self._paired[boundary].pair.reference} in this call"
                )
                continue
            self._compare(boundary, user, activations[boundary], port, dtype, seconds)

    def _compare(
        self, boundary: str, user: int, reference: torch.Tensor, port: torch.Tensor, dtype: str, seconds: float
    ) -> None:
        expected, pair = self._expected, self._paired[boundary].pair
        assert expected is not None
        floor = expected.floors.get(user, {}).get(boundary, float("nan"))
        about: dict[str, Any] = {
            "boundary": boundary,
            "mode": "accumulated",
            "phase": expected.phase,
            "step": expected.step,
            "user": user,
            "floor_rel_l2": floor,
            "module": pair.port,
            "reference_path": pair.reference,
            "dtype": dtype,
            "engine": self._engine,
            "seconds": seconds,
        }
        try:
            aligned = align(reference, port, phase=expected.phase, user=user)
        except LayoutError as error:
            mismatch = without_metrics(tuple(port.shape))
            self._writer.append(Record(**about, **mismatch, verdict="shape_mismatch", adapters=(), note=str(error)))
            return
        comparison = compare(aligned.reference_TC, aligned.port_TC)
        judgement = judge(comparison, self._gate(boundary, expected.phase), floor)
        note = "; ".join((*judgement.missed, *filter(None, [comparison.note])))
        record = Record(
            **about, **metrics_of(comparison), verdict=judgement.verdict, adapters=aligned.adapters, note=note
        )
        self._writer.append(record, comparison.profile)
        self._writer.offer_tensors(record, aligned.reference_TC, aligned.port_TC)

    def _gate(self, boundary: str, phase: str) -> Any:
        key = (boundary, phase)
        if key not in self._gates:
            formats = getattr(self._paired[boundary].port, "weight_formats", {})
            self._gates[key] = default_gate(
                boundary, phase, {weight_format.dtype for weight_format in formats.values()}
            )
        return self._gates[key]

    def _skip(self, boundary: str, user: int, reason: str) -> None:
        assert self._expected is not None
        self._writer.skip(Skipped(boundary, self._expected.phase, self._expected.step, user, reason))


def _main_tensor(output: Any) -> Any:
    """The output itself, or the first tensor of a tuple or list."""
    import torch

    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, torch.Tensor) or is_device_tensor(part)), output)
    return output
