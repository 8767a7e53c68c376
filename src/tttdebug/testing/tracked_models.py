# SPDX-License-Identifier: Apache-2.0
"""The references and runs that tests share: each is made once a session, for the first test that asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import ThresholdError

if TYPE_CHECKING:
    from tttdebug.references import Reference
    from tttdebug.tracking.run import Run

MARKER = "accuracy"
_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class AccuracyRequest:
    """What `@pytest.mark.accuracy(…)` says: which model is tracked how, and what of it the test is about.

    `model` is what `td.load_reference` takes, or a function without arguments that gives it. `prompts` are texts or
    token ids, the default prompt where there are none. `thresholds` and `baseline` are files, relative to pytest's
    root folder.
    """

    model: Any = "llama"
    precision: str = "accuracy"
    boundaries: tuple[str, ...] = ("*",)
    prompts: tuple[str | tuple[int, ...], ...] = ()
    decode_steps: int = 4
    layers: int | None = None
    thresholds: str | None = None
    baseline: str | None = None

    @classmethod
    def of_marker(cls, args: Sequence[Any], keywords: Mapping[str, Any]) -> AccuracyRequest:
        """Raises ThresholdError for what the marker does not take."""
        known = [f.name for f in fields(cls)]
        if args or (unknown := sorted(keywords.keys() - set(known))):
            said = ", ".join(map(repr, args)) if args else ", ".join(unknown)
            raise ThresholdError(f"@pytest.mark.{MARKER} does not take {said}; it takes {', '.join(known)} by name")
        given = dict(keywords)
        if isinstance(given.get("boundaries"), str):
            given["boundaries"] = (given["boundaries"],)
        given |= {name: tuple(given[name]) for name in ("boundaries",) if name in given}
        if "prompts" in given:
            given["prompts"] = tuple(each if isinstance(each, str) else tuple(each) for each in given["prompts"])
        return cls(**given)

    @property
    def name(self) -> str:
        """The model and its precision as part of a path."""
        model = (
            self.model if isinstance(self.model, str) else getattr(self.model, "__name__", type(self.model).__name__)
        )
        return _NOT_IN_A_NAME.sub("-", f"{Path(model).name}_{self.precision}")


class TrackedModels:
    """References and runs of one session, on one device that is opened when the first port is built.

    Runs are kept under `report`, a folder each, or else as long as the session.
    """

    def __init__(self, device: str, report: Path | None) -> None:
        self._device_name, self._report = device, report
        self._device: Any = None
        self._references: dict[Hashable, Reference] = {}
        self._runs: dict[Hashable, Run] = {}

    def reference(self, request: AccuracyRequest) -> Reference:
        """The reference of `request`'s model. Raises WeightsError where it cannot be loaded."""
        from tttdebug.references import load_reference

        key = request.model, request.layers
        if key not in self._references:
            loads: Callable[[], Any] | None = request.model if _is_function(request.model) else None
            model = request.model if loads is None else loads()
            self._references[key] = load_reference(model, layers=request.layers)
        return self._references[key]

    def run(self, request: AccuracyRequest, command: str) -> Run:
        """Its port tracked beside it, at `request`'s precision; `command` is what made the run, where it is made."""
        from tttdebug.backends import open_device
        from tttdebug.modules.build import build_model
        from tttdebug.tracking import track

        key = request.model, request.layers, request.precision, request.prompts, request.decode_steps
        if key not in self._runs:
            reference = self.reference(request)
            if self._device is None:
                self._device = open_device(self._device_name)
            self._runs[key] = track(
                build_model(reference, self._device, request.precision),
                reference,
                request.prompts or None,
                request.decode_steps,
                out=None if self._report is None else _new_folder(self._report, request.name),
                command=command,
            )
        return self._runs[key]

    def close(self) -> None:
        """Give the device back."""
        from tttdebug.backends import close_device

        if self._device is not None:
            close_device(self._device)
            self._device = None


def _is_function(model: Any) -> bool:
    """Modules can be called too, but are the model itself."""
    return callable(model) and not hasattr(model, "state_dict")


def _new_folder(report: Path, name: str) -> Path:
    """A folder that is not there yet, taken at once, so that no two workers take the same."""
    for number in count(1):
        folder = report / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: count does not end")
