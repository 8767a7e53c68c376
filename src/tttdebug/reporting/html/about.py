# SPDX-License-Identifier: Apache-2.0
"""With what a run was made: the command that makes it again, both sides, number formats, versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tttdebug.reporting.html.markup import Markup, element, folded, section, table
from tttdebug.reporting.wording import clipped
from tttdebug.tracking.run import Run

_LONGEST = 2000  # characters of a value


def about_section(run: Run) -> Markup:
    """What the manifest says, the essential first, each layer's own settings folded away."""
    manifest = run.manifest
    essential = {
        "model": manifest.model.get("name"),
        "reference": manifest.model.get("source"),
        "weights digest": manifest.model.get("weights_digest"),
        "precision": manifest.precision,
        "device": ", ".join(f"{name} {_value(value)}" for name, value in manifest.device.items()),
        "decode steps": manifest.decode_steps,
        "seed": manifest.seed,
        "created": manifest.created,
        "folder": str(run.path),
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    others = {
        **dict(_flat("model", manifest.model)),
        **dict(_flat("hardware", manifest.hardware)),
        **{f"prompt {number}": prompt.get("text") for number, prompt in enumerate(manifest.prompts, start=1)},
    }
    command = manifest.command_again
    return section(
        "How it was made",
        element("p", "Made again by"),
        element("pre", command or "no command: this run was made by td.track in a program", class_="command"),
        _facts(essential),
        folded("More about both sides", _facts(others)),
        id_="about",
    )


def _facts(described: Mapping[str, Any]) -> Markup:
    rows = [
        (name, clipped(_value(value), _LONGEST)) for name, value in described.items() if value not in (None, "", {})
    ]
    return table(("fact", "value"), rows, numbers=0, class_="facts")


def _flat(name: str, described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part, value in described.items():
        yield f"{name}: {part}", value


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(item, int) for item in value):
        return "x".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
