# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison of runs: what ran, in which environment, and what each call of each boundary gave."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tttdebug.errors import ComparisonError
from tttdebug.testing.record_columns import read_columns
from tttdebug.testing.standing import Calls, Measured, Place, Standing, standing_of
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.run import MANIFEST


@dataclass(frozen=True)
class Subject:
    """What was compared with what: two runs of the same are comparable. `prompts` is a digest of all of them."""

    name: str
    architecture: str
    layers: int
    weights_digest: str
    prompts: str


@dataclass(frozen=True)
class Side:
    """A run or a baseline file; a file has no single calls. `name` is the path that was given."""

    name: str
    subject: Subject
    environment: Mapping[str, str]
    standings: Mapping[Place, Standing]
    calls: Mapping[Place, Calls] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A part of the environment that is not the same; empty where a side does not have it."""

    name: str
    before: str
    after: str


def side_of_run(path: str | Path) -> Side:
    """The run in a folder, finished or not. Raises RunError as `Run.load` does, ComparisonError for an empty run."""
    manifest = Manifest.read(Path(path) / MANIFEST)
    columns = read_columns(Path(path), manifest, ())
    if not len(columns):
        raise ComparisonError(f"{path} holds no record ({manifest.status}): there is nothing to compare; run again")
    grouped: dict[tuple[str, str, str], dict[tuple[int, int], Measured]] = defaultdict(dict)
    measured = zip(columns.keys, columns.numbers["rel_l2"].tolist(), columns.words["verdict"], strict=True)
    for (boundary, phase, step, user, mode), rel_l2, verdict in measured:
        grouped[boundary, phase, mode][step, user] = Measured(rel_l2, verdict)
    calls = {Place(*place): each for place, each in grouped.items()}
    standings = {place: standing_of(each) for place, each in calls.items()}
    return Side(str(path), _subject(manifest), _environment(manifest), standings, calls)


def refuse_incomparable(run: Side, baseline: Side) -> None:
    """Raise ComparisonError where the two are of other models or read other prompts."""
    now, then = run.subject, baseline.subject
    other = [
        f"{words} {getattr(then, name)} → {getattr(now, name)}"
        for name, words in (("architecture", "architecture"), ("layers", "number of layers"))
        if getattr(then, name) != getattr(now, name)
    ]
    if now.name != then.name and now.weights_digest != then.weights_digest:
        other.append(f"{then.name} → {now.name}, with other weights")
    if other:
        raise ComparisonError(
            f"{run.name} and {baseline.name} are not comparable, they are of other models: {'; '.join(other)}"
        )
    if now.prompts != then.prompts:
        raise ComparisonError(
            f"{run.name} and {baseline.name} are not comparable, they read other prompts; run again with those of "
            f"{baseline.name}"
        )


def differences(run: Side, baseline: Side) -> tuple[Difference, ...]:
    """What differs around the numbers: versions, device, number formats, weights, seed, command …"""
    now = {"model.weights_digest": run.subject.weights_digest, **run.environment}
    then = {"model.weights_digest": baseline.subject.weights_digest, **baseline.environment}
    names = (*then, *(name for name in now if name not in then))
    pairs = ((name, then.get(name, ""), now.get(name, "")) for name in names)
    return tuple(Difference(*pair) for pair in pairs if pair[1] != pair[2])


def _subject(manifest: Manifest) -> Subject:
    model = manifest.model
    prompts = json.dumps([dict(prompt) for prompt in manifest.prompts], sort_keys=True)
    return Subject(
        str(model.get("name", "")),
        str(model.get("architecture", "")),
        int(model.get("layers", 0)),
        str(model.get("weights_digest", "")),
        hashlib.sha256(prompts.encode()).hexdigest(),
    )


def _environment(manifest: Manifest) -> dict[str, str]:
    """All that may change the numbers and is not the model, flat, as text."""
    said = {
        "command": manifest.command_again,
        "seed": manifest.seed,
        "status": manifest.status,
        "versions": manifest.versions,
        "device": manifest.device,
        "precision": manifest.precision,
        "decode_steps": manifest.decode_steps,
        "model": {"source": manifest.model.get("source", "")},
        "hardware": manifest.hardware,
    }
    return dict(_flat("", said))


def _flat(prefix: str, said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in said.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
