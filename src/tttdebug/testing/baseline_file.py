# SPDX-License-Identifier: Apache-2.0
"""Baselines as TOML: a line a limit, so that a change of one shows as one line in a repository."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from tttdebug.errors import BaselineError
from tttdebug.testing.baseline import Baseline, Entry, Limit
from tttdebug.testing.side import Side, Subject, side_of_run
from tttdebug.testing.standing import Place, Standing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
_DIGITS = 4  # of an error: the fourth is far below any noise
_HEADER = """\
# What no run of this model may get worse than. `tttdebug compare RUN FILE` holds a run to it, `tttdebug baseline RUN
# --update FILE` tightens it. A limit holds rel_l2 (the median over the calls of a phase), worst (of one call), how many
# calls there are, the worst verdict, and since which entry of the history it stands.
"""


def read_side(path: str | Path) -> Side:
    """The run in a folder, or the baseline in a file. Raises RunError, ComparisonError or BaselineError."""
    return read_baseline(path).side(str(path)) if Path(path).is_file() else side_of_run(path)


def read_baseline(path: str | Path) -> Baseline:
    """The baseline in a file. Raises BaselineError when it is missing, no TOML, of a newer schema, or no baseline."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BaselineError(f"{path} cannot be read as a baseline ({error}); `tttdebug baseline` writes one") from None
    schema = content.get("schema")
    if type(schema) is not int:
        raise BaselineError(f"{path} is no baseline: it has no schema; `tttdebug baseline` writes one")
    if schema > SCHEMA:
        raise BaselineError(f"{path} has schema {schema}, this tttdebug reads up to {SCHEMA}; upgrade tttdebug")
    try:
        return _baseline(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BaselineError(
            f"{path} is damaged ({error!r}); mend it, restore it from the repository, or write it anew"
        ) from None


def write_baseline(baseline: Baseline, path: str | Path) -> None:
    """Raises BaselineError when the file cannot be written."""
    try:
        Path(path).write_text(baseline_text(baseline), encoding="utf-8")
    except OSError as error:
        raise BaselineError(f"the baseline cannot be written to {path}: {error.strerror}; give another file") from None


def baseline_text(baseline: Baseline) -> str:
    """A baseline as TOML, limits in the order of execution."""
    parts = [_HEADER, f"schema = {SCHEMA}", *_table("subject", asdict(baseline.subject))]
    parts += _table("environment", baseline.environment)
    for entry in baseline.history:
        parts += ["", "[[history]]", f"by = {_text(entry.by)}", f"on = {entry.on}", f"why = {_text(entry.why)}"]
    for phase in dict.fromkeys(place.phase for place in baseline.limits):
        parts += ["", f"[limits.{_key(phase)}]"]
        parts += [
            f"{_key(place.boundary)} = {_limit(limit)}"
            for place, limit in baseline.limits.items()
            if place.phase == phase
        ]
    return "\n".join(parts) + "\n"


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n[{name}]"
    for key, value in values.items():
        yield f"{_key(key)} = {value if isinstance(value, int) else _text(value)}"


def _limit(limit: Limit) -> str:
    standing = limit.standing
    return (
        f"{{ rel_l2 = {_number(standing.rel_l2)}, worst = {_number(standing.worst)}, calls = {standing.calls}, "
        f"verdict = {_text(standing.verdict)}, since = {limit.since} }}"
    )


def _number(value: float) -> str:
    """A TOML float."""
    text = f"{value:.{_DIGITS}g}"
    return text if any(mark in text for mark in ".ein") else f"{text}.0"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL and surrogates, which JSON leaves or pairs."""
    escaped = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return escaped.encode("utf-8", errors="replace").decode("utf-8")


def _baseline(content: Mapping[str, Any]) -> Baseline:
    history = tuple(Entry(str(entry["by"]), _day(entry["on"]), str(entry["why"])) for entry in content["history"])
    limits = {
        Place(boundary, phase): Limit(_standing(limit), int(limit["since"]))
        for phase, named in content["limits"].items()
        for boundary, limit in named.items()
    }
    if any(not 1 <= limit.since <= len(history) for limit in limits.values()):
        raise ValueError("a limit stands since an entry that is not in the history")
    environment = {str(name): str(value) for name, value in content["environment"].items()}
    return Baseline(Subject(**content["subject"]), environment, history, limits)


def _standing(limit: Mapping[str, Any]) -> Standing:
    rel_l2, worst, calls = float(limit["rel_l2"]), float(limit["worst"]), int(limit["calls"])
    if not (rel_l2 >= 0 and worst >= 0 and calls >= 1):
        raise ValueError(f"rel_l2 {rel_l2}, worst {worst} or calls {calls} is out of range")
    return Standing(rel_l2, worst, calls, str(limit["verdict"]))


def _day(value: object) -> date:
    if type(value) is not date:
        raise TypeError(f"{value!r} is no day")
    return value
