# SPDX-License-Identifier: Apache-2.0
"""Thresholds: limits for the boundaries that patterns name, read from a TOML file that is refused where it gates less
than it seems to.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from tttdebug.errors import ThresholdError
from tttdebug.testing.limits import METRICS
from tttdebug.tracking.call_numbers import first_call_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PHASES, MODES = ("prefill", "decode"), ("accumulated", "isolated", "inherited")
WEIGHT_FORMATS = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")
_SELECTING = ("boundaries", "phase", "step", "mode", "precision", "when", "tokens_below", "floor_excuses", "optional")
_HEADING = re.compile(r"^[ \t]*\[\[\s*threshold\s*\]\]", re.MULTILINE)
_STEPS = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Threshold:
    """Limits, by metric, for the records that everything else here selects.

    `phase` and `steps`, the first and the last, select all where they are empty. `precision`, `when` and `tokens_below`
    are conditions: where they are not met the threshold is set aside. `floor_excuses` lets pass what the number formats
    explain. `optional` says that it may select nothing at all. `place` is where it stands in its file.
    """

    boundaries: tuple[str, ...]
    limits: Mapping[str, float]
    phase: str = ""
    steps: tuple[int, int] | None = None
    mode: str = MODES[0]
    precision: str = ""
    when: str = ""
    tokens_below: int | None = None
    floor_excuses: bool = False
    optional: bool = False
    place: str = ""

    def names(self, boundary: str) -> bool:
        """Whether one of the patterns is of this boundary, or of it without the number of its call."""
        return any(names(pattern, boundary) for pattern in self.boundaries)


@dataclass(frozen=True)
class Allowance:
    """A skipped comparison that is known and accepted: patterns of its boundary and of its reason."""

    boundary: str
    reason: str


@dataclass(frozen=True)
class Thresholds:
    """All thresholds of a file, in its order: of two that limit the same metric of a record, the later one counts.

    `digest` is of the file's text, so that a report says which limits were held.
    """

    thresholds: tuple[Threshold, ...]
    allowed_skips: tuple[Allowance, ...] = ()
    origin: str = ""
    digest: str = field(default="", compare=False)


def names(pattern: str, boundary: str) -> bool:
    """Whether a pattern, with `*`, `?` and `[…]` as a shell's, is of this boundary or of all calls of its module."""
    return fnmatchcase(boundary, pattern) or fnmatchcase(first_call_of(boundary), pattern)


def read_thresholds(path: str | Path) -> Thresholds:
    """The thresholds of a file. Raises ThresholdError, naming the line, for all that is not understood."""
    try:
        return thresholds_from_toml(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ThresholdError(
            f"the thresholds {path} cannot be read: {error.strerror}; `tttdebug gate --print-defaults` prints some"
        ) from error
    except UnicodeDecodeError as error:
        raise ThresholdError(f"the thresholds {path} are not UTF-8 text: {error}; save the file as UTF-8") from error


def thresholds_from_toml(text: str, origin: str) -> Thresholds:
    """Thresholds out of TOML; `origin` is what errors call it. Raises ThresholdError."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThresholdError(f"{origin} is not TOML: {error}") from error
    _refuse_unknown(content, ("threshold", "thresholds", "allow"), origin)
    if "thresholds" in content:
        return _from_lines(text, content, origin)
    tables = content.get("threshold", [])
    if not isinstance(tables, list) or not tables:
        raise ThresholdError(f"{origin} holds no [[threshold]], so nothing would be held to anything; write one")
    lines = [1 + text.count("\n", 0, found.start()) for found in _HEADING.finditer(text)]
    places = (
        [f"{origin}, line {line}" for line in lines]
        if len(lines) == len(tables)
        else [f"{origin}, threshold {number}" for number in range(1, len(tables) + 1)]
    )
    thresholds = tuple(_threshold(table, place) for table, place in zip(tables, places, strict=True))
    return Thresholds(thresholds, _allowances(content, origin), origin, sha256(text.encode()).hexdigest())


def _from_lines(text: str, content: Mapping[str, Any], origin: str) -> Thresholds:
    """Those of a table [thresholds], a line each: `"L*.mlp" = {pcc = 0.98, when = "bfloat4_b"}`."""
    table = content["thresholds"]
    if "threshold" in content:
        raise ThresholdError(
            f"{origin} has both [thresholds] and [[threshold]], whose order TOML does not keep, and of two limits the "
            "later one counts; write all of them one way"
        )
    if not isinstance(table, dict) or not table:
        raise ThresholdError(
            f"{origin}: thresholds holds nothing to be held to; write [[threshold]] before a table each, or "
            '[thresholds] once and under it lines such as "L*.mlp" = {pcc = 0.98}'
        )
    thresholds = []
    for pattern, said in table.items():
        found = re.search(rf"""^[ \t]*["']{re.escape(pattern)}["']\s*=""", text, re.MULTILINE)
        place = f"{origin}, line {1 + text.count(chr(10), 0, found.start())}" if found else f"{origin}, {pattern}"
        if not isinstance(said, dict):
            raise ThresholdError(f"{place}: {pattern} = {said!r}; write a metric and its limit, such as {{pcc = 0.98}}")
        _refuse_unknown(said, (*(key for key in _SELECTING if key != "boundaries"), *METRICS), place)
        thresholds.append(_threshold({"boundaries": pattern, **said}, place))
    return Thresholds(tuple(thresholds), _allowances(content, origin), origin, sha256(text.encode()).hexdigest())


def _allowances(content: Mapping[str, Any], origin: str) -> tuple[Allowance, ...]:
    allow = content.get("allow", {})
    if not isinstance(allow, dict):
        raise ThresholdError(f"{origin}: allow = {allow!r}; write a table [allow] with skipped = [...]")
    _refuse_unknown(allow, ("skipped",), f"{origin}, [allow]")
    return tuple(_allowance(entry, origin) for entry in _texts(allow.get("skipped", []), "skipped", origin))


def nearest(name: str, known: Iterable[str]) -> str:
    """The names of `known` that are most like `name`, for an error."""
    names_ = list(dict.fromkeys(known))
    near = get_close_matches(name, names_, n=3, cutoff=0.3) or names_[:5]
    return f"nearest: {', '.join(near)}" if near else "there are none"


def _threshold(table: Any, place: str) -> Threshold:
    if not isinstance(table, dict):
        raise ThresholdError(f"{place}: {table!r} is no table; write [[threshold]] and a key a line")
    _refuse_unknown(table, (*_SELECTING, *METRICS), place)
    if "boundaries" not in table:
        raise ThresholdError(f'{place} says no boundaries; add boundaries = "*" for all, or patterns as "L*.mlp"')
    boundaries = _texts(table["boundaries"], "boundaries", place)
    limits = {metric: table[metric] for metric in table if metric in METRICS}
    if not boundaries or not limits:
        raise ThresholdError(f"{place} limits nothing; give it a boundary and a metric, such as pcc = 0.99")
    for metric, limit in limits.items():
        if not METRICS[metric].allows(limit):
            raise ThresholdError(f"{place}: {metric} = {limit!r} limits nothing; give {METRICS[metric].range}")
    tokens_below = table.get("tokens_below")
    if tokens_below is not None and (type(tokens_below) is not int or tokens_below < 1):
        raise ThresholdError(f"{place}: tokens_below = {tokens_below!r}; give a number of tokens, such as 32")
    return Threshold(
        boundaries,
        {metric: float(limit) for metric, limit in limits.items()},
        phase=_choice(table, "phase", "", PHASES, place),
        steps=_steps(table.get("step"), place),
        mode=_choice(table, "mode", MODES[0], MODES, place),
        precision=_text(table, "precision", place),
        when=_choice(table, "when", "", WEIGHT_FORMATS, place),
        tokens_below=tokens_below,
        floor_excuses=_flag(table, "floor_excuses", place),
        optional=_flag(table, "optional", place),
        place=place,
    )


def _allowance(entry: str, origin: str) -> Allowance:
    boundary, colon, reason = (part.strip() for part in entry.partition(":"))
    if not boundary or not colon or not reason.strip("*? "):
        raise ThresholdError(
            f'{origin}, [allow]: {entry!r} gives no reason; write "boundary: reason", as the run says it'
        )
    return Allowance(boundary, reason)


def _steps(step: Any, place: str) -> tuple[int, int] | None:
    if step is None:
        return None
    if type(step) is int and step >= 0:
        return step, step
    found = _STEPS.fullmatch(step) if isinstance(step, str) else None
    if found is None or int(found[1]) > int(found[2]):
        raise ThresholdError(f'{place}: step = {step!r}; give one from 0 on, or the first and the last as "0-7"')
    return int(found[1]), int(found[2])


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise ThresholdError(f"{place}: {key} is unknown; {nearest(key, known)}")


def _choice(table: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...], place: str) -> str:
    value = table.get(key, default)
    if value != default and value not in choices:
        raise ThresholdError(f"{place}: {key} = {value!r} is none of {', '.join(choices)}")
    return str(value)


def _text(table: Mapping[str, Any], key: str, place: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ThresholdError(f"{place}: {key} = {value!r} is no text")
    return value


def _flag(table: Mapping[str, Any], key: str, place: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ThresholdError(f"{place}: {key} = {value!r}; give true or false")
    return value


def _texts(value: Any, key: str, place: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) and key == "boundaries" else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ThresholdError(f"{place}: {key} = {value!r}; give a list of texts")
    return tuple(texts)
