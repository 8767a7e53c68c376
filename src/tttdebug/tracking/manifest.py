# SPDX-License-Identifier: Apache-2.0
"""What a run says about itself: what was compared with what, by which versions, and what was left out."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tttdebug.errors import RunError
from tttdebug.tracking.run_files import replace_text

SCHEMA = 1
_DIGEST = "digest"
_OUT = re.compile(r"\s--out[ =]('[^']*'|\S+)")
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
    empty where there was none. `unpaired` lists what automatic pairing left out on either side. `seals` holds the
    SHA-256 of each file of a run that came to its end, and none where it did not or was of an earlier version.
    `golden` says for which prompts the reference's activations came out of goldens (`used`) instead of running it, and
    of goldens that were given and `refused` why; empty where none were asked for.
    `agreement` holds the token metrics of each phase, `continuations` the text that each side would write.
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
    golden: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    agreement: Mapping[str, Any] = field(default_factory=dict)
    continuations: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    seals: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def from_goldens(self) -> tuple[int, ...]:
        """The users whose reference did not run: what it gave came out of a golden."""
        return tuple(self.golden.get("used", ()))

    @property
    def refused_goldens(self) -> tuple[str, ...]:
        """Why goldens that were given were not used."""
        return tuple(self.golden.get("refused", ()))

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def command_again(self) -> str:
        """The command that makes such a run again: without the folder, which is taken now."""
        return _OUT.sub("", self.command)

    @property
    def wrong_weights(self) -> str:
        """What the audit of the port's weights found wrong, in words; "" where nothing, or where there was no audit."""
        faults = self.weights.get("faults", ())
        if not faults:
            return ""
        count = f"{len(faults)} weights of the port are" if len(faults) > 1 else "1 weight of the port is"
        first = faults[0]
        return f"{count} not the checkpoint's, the first {first['source']}, {first['status']}: {first['detail']}"

    def write(self, path: Path) -> None:
        """Replace the file at `path` in one step, so that a reader or a crash never meets half of it.

        Raises RunError when it cannot be written; what was there is kept.
        """
        content = asdict(self)
        replace_text(path, _as_text(content | {_DIGEST: _digest_of(content)}))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises RunError when the file is missing, damaged, not as it was written, or of a newer schema."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{path.parent} is not a run: it has no manifest.json; give the folder that a run printed as its own"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
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
        if content.pop(_DIGEST, None) not in (None, _digest_of(content)):  # runs of an earlier version have none
            raise RunError(
                f"{path} is damaged: it is not as its run wrote it; restore it from a copy, or run the comparison again"
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


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=True)


def _digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, in its own order, but for the digest itself."""
    return hashlib.sha256(_as_text(content).encode("utf-8")).hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
