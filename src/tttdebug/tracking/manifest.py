# SPDX-License-Identifier: Apache-2.0
"""What a run says about itself: what was compared with what, by which versions, and what was left out."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tttdebug.errors import RunError

SCHEMA = 1
_REPORTED_PACKAGES = ("tttdebug", "torch", "transformers", "ttnn", "numpy", "safetensors")


@dataclass(frozen=True)
class Skipped:
    """A boundary that was expected but not compared, and why."""

    boundary: str
    phase: str
    step: int
    user: int
    reason: str


@dataclass(frozen=True)
class Unpaired:
    """A module of one side, "port" or "reference", that has no counterpart on the other, and why."""

    side: str
    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The head of a run. `status` is "unfinished" while records come, then "finished" or "failed: <error>".

    `job` is what `tttdebug run` needs to build both sides again, empty for a run that was not made by it. `expected`
    counts the comparisons that the pairs, prompts and steps ask for; `compared` those that gave a record;
    `ops` the op records, None where ops were not tracked. `weights` is what the audit of the port's weights found,
    empty where there was none. `unpaired` lists what automatic pairing left out on either
    side. `agreement` holds the token metrics of each phase, `continuations` the text that each side would write.
    """

    created: str
    model: Mapping[str, Any]
    device: Mapping[str, Any]
    precision: str
    prompts: tuple[Mapping[str, Any], ...]
    decode_steps: int
    command: str = ""
    seed: int | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions())
    hardware: Mapping[str, Any] = field(default_factory=dict)
    status: str = "unfinished"
    expected: int = 0
    compared: int = 0
    ops: int | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    agreement: Mapping[str, Any] = field(default_factory=dict)
    continuations: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    def write(self, path: Path) -> None:
        """Replace the file at `path` in one step, so that a reader or a crash never meets half of it."""
        fresh = path.with_suffix(".json.new")
        fresh.write_text(json.dumps(asdict(self), indent=1, allow_nan=True), encoding="utf-8")
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises RunError when the file is missing, damaged, or of a newer schema."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{path.parent} is not a run: it has no manifest.json; give the folder that a run printed as its own"
            ) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RunError(
                f"{path} is damaged ({error}); restore it from a copy, or run the comparison again"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
            raise RunError(
                f"{path} is not the manifest of a tttdebug run; give the folder that a run printed as its own"
            )
        if content["schema"] > SCHEMA:
            raise RunError(
                f"{path} has schema {content['schema']}, this tttdebug reads up to {SCHEMA}; upgrade tttdebug "
                "to open this run"
            )
        unknown = content.keys() - {f.name for f in fields(cls)}
        try:
            return cls(
                **{name: value for name, value in content.items() if name not in unknown}
                | {
                    "skipped": tuple(Skipped(**entry) for entry in content.get("skipped", ())),
                    "unpaired": tuple(Unpaired(**entry) for entry in content.get("unpaired", ())),
                    "prompts": tuple(content.get("prompts", ())),
                    "continuations": tuple(content.get("continuations", ())),
                    "notes": tuple(content.get("notes", ())),
                }
            )
        except TypeError as error:
            raise RunError(
                f"{path} lacks a part of a manifest ({error}); restore it from a copy, or run again"
            ) from None


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
