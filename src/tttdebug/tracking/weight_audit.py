# SPDX-License-Identifier: Apache-2.0
"""The weight audit: every weight on the device against the checkpoint, through its declared layout and format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tttdebug.backends import is_device_tensor, to_torch, unreadable
from tttdebug.backends.readback import MOCK
from tttdebug.errors import AuditError
from tttdebug.tracking.device_tensors import tensors_held_by

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference

Status = Literal[
    "equal",
    "quantised as declared",
    "quantised otherwise",
    "permuted",
    "transposed",
    "stale",
    "scaled",
    "missing",
    "different",
    "within another",
]
SOUND: frozenset[str] = frozenset({"equal", "quantised as declared", "within another"})
"""What a weight may be without being a fault; "within another" says that it is part of a sum on the device."""
SAMPLED_ROWS = 32  # of a weight's rows on the device, in a quick audit


class Layout(Protocol):
    """A reversible change from the reference's layout of a weight to the port's."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor: ...

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class PlacedPart:
    """A weight within a device tensor: its names on both sides, and how it is declared to lie there.

    `matrix` gives the weight out of the checkpoint's tensor of that name.
    """

    name: str
    source: str
    matrix: Callable[[torch.Tensor], torch.Tensor]
    layout: Layout
    dtype: str


@dataclass(frozen=True)
class PlacedTensor:
    """What the port holds at `path`, with the parts that should lie in it side by side. Of a sum of weights, which
    is no weight of the checkpoint any more, there is nothing to compare.
    """

    path: str
    tensor: Any
    parts: tuple[PlacedPart, ...]
    is_sum: bool = False


@dataclass(frozen=True)
class WeightFinding:
    """What one weight of the port is. `rel_l2` is against the checkpoint's, before any quantisation."""

    path: str
    weight: str
    source: str
    status: Status
    detail: str
    rel_l2: float
    dtype: str
    shape: tuple[int, ...]

    @property
    def sound(self) -> bool:
        return self.status in SOUND


@dataclass(frozen=True)
class Audit:
    """What became of every weight. `sampled` says that only some rows of each were compared."""

    findings: tuple[WeightFinding, ...]
    sampled: bool = False

    @property
    def faults(self) -> tuple[WeightFinding, ...]:
        return tuple(finding for finding in self.findings if not finding.sound)

    @property
    def passed(self) -> bool:
        """Whether there was something to audit and all of it is as declared."""
        return bool(self.findings) and not self.faults

    def to_json(self) -> dict[str, Any]:
        """What a run's manifest keeps: the summary, and of each fault all but its sizes."""
        kept = ("path", "weight", "source", "status", "detail")
        faults = [{name: getattr(fault, name) for name in kept} for fault in self.faults]
        return {"summary": self.summary(), "sampled": self.sampled, "faults": faults}

    def summary(self) -> str:
        """One line: how many weights are what."""
        counts = Counter(finding.status for finding in self.findings)
        counted = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        return f"{len(self.findings)} weights: {counted or 'none found'}"


def audit(port: Any, reference: Reference, *, quick: bool = False) -> Audit:
    """Compare every weight that `port` holds on its device with the reference's.

    A port that offers `placed_weights`, as those of `build_model` do, is held to what it declares; in any other its
    tensors are found by walking its attributes and told by what they hold. With `quick` some rows of each weight are
    compared first and the whole weight only where they differ; a fault in other rows is then not seen.

    Raises AuditError where no weight is found, and where a mock cluster holds them, which keeps no values.
    """
    if unreadable(next((tensor for _, tensor in tensors_held_by(port)), None)) == MOCK:
        raise AuditError(
            f"{type(port).__name__} lies on a mock cluster, which keeps no values: there are no weights to compare; "
            "audit it on a card, on the simulator or on the emulator"
        )
    state = reference.state_dict()
    if hasattr(port, "placed_weights"):
        findings = tuple(_declared(list(port.placed_weights()), state, quick))
    else:
        from tttdebug.tracking.foreign_weights import recognised

        findings, quick = tuple(recognised(port, state)), False
    if not findings:
        raise AuditError(
            f"no weight was found on the device in {type(port).__name__}; build or load its weights first, or give the "
            "object that holds them"
        )
    return Audit(findings, quick)


def _declared(placed: list[PlacedTensor], state: Mapping[str, torch.Tensor], quick: bool) -> Iterable[WeightFinding]:
    parts = [part for tensor in placed for part in tensor.parts]
    for tensor in placed:
        for part in tensor.parts:
            if tensor.is_sum:
                detail = "kept on the device only as part of a sum"
                yield WeightFinding(tensor.path, part.name, part.source, "within another", detail, math.nan, "", ())
        if not tensor.is_sum:
            yield from _audit_tensor(tensor, parts, state, quick)


def _audit_tensor(
    placed: PlacedTensor, parts: list[PlacedPart], state: Mapping[str, torch.Tensor], quick: bool
) -> Iterable[WeightFinding]:
    import torch

    from tttdebug.emulator.formats import FORMATS
    from tttdebug.tracking.weight_causes import Suspect, cause_of, relative_error

    def finding(part: PlacedPart, status: Status, detail: str, rel_l2: float = math.nan) -> WeightFinding:
        held = placed.tensor
        known = is_device_tensor(held)
        shape, dtype = (tuple(held.shape), _name(held.dtype)) if known else ((), "")
        return WeightFinding(placed.path, part.name, part.source, status, detail, rel_l2, dtype, shape)

    if reason := _unreadable(placed, state):
        yield from (finding(part, "missing", reason) for part in placed.parts)
        return
    actual = to_torch(placed.tensor).float()
    wanted = [part.layout.to_port(part.matrix(state[part.source]).float()) for part in placed.parts]
    expected = torch.cat(wanted, dim=-1) if len(wanted) > 1 else wanted[0]
    if actual.shape != expected.shape:
        detail = f"is {list(actual.shape)} on the device, the checkpoint's makes {list(expected.shape)}"
        yield from (finding(part, "different", detail) for part in placed.parts)
        return
    form, rows = FORMATS[placed.parts[0].dtype], expected.shape[-2] if expected.ndim > 1 else 1
    some = torch.linspace(0, rows - 1, min(rows, SAMPLED_ROWS)).long()
    if quick and rows > SAMPLED_ROWS and torch.equal(form.quantise(expected[..., some, :]), actual[..., some, :]):
        yield from (finding(part, "quantised as declared", "rows sampled") for part in placed.parts)
        return
    quantised = form.quantise(expected)
    widths = [part.shape[-1] for part in wanted]
    for part, whole, packed, held in zip(
        placed.parts,
        expected.split(widths, -1),
        quantised.split(widths, -1),
        actual.split(widths, -1),
        strict=True,
    ):
        error = relative_error(held, whole)
        if torch.equal(held, whole):
            yield finding(part, "equal", "", 0.0)
        elif torch.equal(held, packed):
            yield finding(part, "quantised as declared", part.dtype, error)
        else:
            cause = cause_of(Suspect(part, held, whole, placed.parts), parts, state)
            yield finding(part, cause.status, cause.detail, error)


def _unreadable(placed: PlacedTensor, state: Mapping[str, torch.Tensor]) -> str:
    """Why a tensor cannot be compared, or nothing."""
    if absent := [part.source for part in placed.parts if part.source not in state]:
        return f"the checkpoint has no {absent[0]}"
    if not is_device_tensor(placed.tensor):
        return f"the port holds a {type(placed.tensor).__name__} where the weight should be"
    return unreadable(placed.tensor) or ""


def _name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2].lower()
