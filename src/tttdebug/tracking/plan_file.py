# SPDX-License-Identifier: Apache-2.0
"""Pairing plans as TOML: written to be read and edited, one entry for all layers that pair alike; and read back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from tttdebug.errors import PairingError
from tttdebug.tracking.pairing import AS_IT_IS, Pair, PairLayout
from tttdebug.tracking.pairing_plan import LAYERED, FoundBy, PairingPlan, PlannedPair, Unpaired, in_order

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LAYOUT = tuple(field.name for field in fields(PairLayout))
_PAIR_KEYS = ("boundary", "port", "reference", "layers", "found_by", "because", *_LAYOUT)
_UNPAIRED_KEYS = ("path", "layers", "class_name", "reason")
_ALWAYS = ("boundary", "port", "reference", "path", "class_name", "reason")
_HEADER = """\
# Pairs for tttdebug: which module of the port is compared with which of the reference.
# {i} is the number of a layer, of those listed or else of all. Change, add or remove [[pair]] entries; unpaired
# modules are listed for information. Without `complete = true`, what no entry names is paired by name as ever.
"""


@dataclass(frozen=True)
class ForLayers:
    """Something said once for several layers: `template` has `{i}` in the place of their numbers, or no layers."""

    template: Any
    layers: tuple[int, ...]


def write_plan(plan: PairingPlan, path: str | Path) -> None:
    """Save a plan as TOML. Raises PairingError when it cannot be written."""
    try:
        Path(path).write_text(plan_to_toml(plan), encoding="utf-8")
    except OSError as error:
        raise PairingError(f"the plan cannot be written to {path}: {error.strerror}; give another file") from error


def read_plan(path: str | Path) -> PairingPlan:
    """A plan that was saved, and edited since. Raises PairingError when it is not there, no TOML, or says nonsense."""
    try:
        return plan_from_toml(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise PairingError(
            f"the plan {path} cannot be read: {error.strerror}; `tttdebug pair --out` writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise PairingError(f"the plan {path} is not UTF-8 text: {error}") from error


def plan_to_toml(plan: PairingPlan) -> str:
    """A plan as TOML."""
    notes = [_line("notes", list(plan.notes))] if plan.notes else []
    tables = [_HEADER, *notes, f"{_line('complete', plan.complete)}\n"]
    for group in pair_groups(plan.planned):
        planned, pair = group.template, group.template.pair
        layout = {name: getattr(pair.layout, name) for name in _LAYOUT}
        changed = {name: value for name, value in layout.items() if value != getattr(AS_IT_IS, name)}
        said = {"boundary": pair.boundary, "port": pair.port, "reference": pair.reference, "layers": group.layers}
        tables.append(_table("pair", said | changed | {"found_by": planned.found_by, "because": planned.because}))
    for name, unpaired in (("unpaired_port", plan.unpaired_port), ("unpaired_reference", plan.unpaired_reference)):
        for group in unpaired_groups(unpaired):
            left = group.template
            said = {"path": left.path, "layers": group.layers, "class_name": left.class_name, "reason": left.reason}
            tables.append(_table(name, said))
    return "\n".join(tables)


def plan_from_toml(text: str, origin: str) -> PairingPlan:
    """A plan out of TOML; `origin` is what errors call it."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PairingError(f"{origin} is not TOML: {error}") from error
    known = ("pair", "unpaired_port", "unpaired_reference", "notes", "complete")
    if unknown := sorted(set(content) - set(known)):
        raise PairingError(f"{origin}: {', '.join(unknown)} is none of {', '.join(known)}")
    planned = [pair for i, table in enumerate(_tables(content, "pair", origin), 1) for pair in _pairs(table, i, origin)]
    left = {
        name: tuple(
            each for i, table in enumerate(_tables(content, name, origin), 1) for each in _left(table, name, i, origin)
        )
        for name in ("unpaired_port", "unpaired_reference")
    }
    notes = content.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise PairingError(f"{origin}: notes is not a list of texts")
    complete = content.get("complete", False)
    if not isinstance(complete, bool):
        raise PairingError(f"{origin}: complete = {complete!r}; give true or false")
    return PairingPlan(in_order(planned), left["unpaired_port"], left["unpaired_reference"], tuple(notes), complete)


def pair_groups(planned: Iterable[PlannedPair]) -> list[ForLayers]:
    """Pairs that differ in their layer's number only, together."""
    return _grouped(planned, _pair_of_any_layer)


def unpaired_groups(unpaired: Iterable[Unpaired]) -> list[ForLayers]:
    """Unpaired modules that differ in their layer's number only, together."""
    return _grouped(unpaired, _unpaired_of_any_layer)


def _grouped(items: Iterable[Any], of_any_layer: Callable[[Any], tuple[Any, int] | None]) -> list[ForLayers]:
    """Items of which the same holds in several layers together; what holds in one only, and all others, as they are."""
    groups: dict[Any, list[tuple[Any, int]]] = {}
    for item in dict.fromkeys(items):
        template, layer = of_any_layer(item) or (item, -1)
        groups.setdefault(template, []).append((item, layer))
    return [
        ForLayers(template, tuple(layer for _, layer in members))
        if len(members) > 1 and members[0][1] >= 0
        else ForLayers(members[0][0], ())
        for template, members in groups.items()
    ]


def _pair_of_any_layer(each: PlannedPair) -> tuple[PlannedPair, int] | None:
    matched = LAYERED.match(each.pair.boundary)
    if matched is None:
        return None
    stack, number, part = matched.groups()
    layer = int(number)
    port, reference = (_with_placeholder(path, layer) for path in (each.pair.port, each.pair.reference))
    general = Pair(f"{stack}L{{i}}.{part}", port, reference, each.pair.layout)
    because = _with_placeholder(each.because, layer)
    says_the_same = general.of_layer(layer) == each.pair and because.replace("{i}", str(layer)) == each.because
    return (replace(each, pair=general, because=because), layer) if says_the_same else None


def _unpaired_of_any_layer(each: Unpaired) -> tuple[Unpaired, int] | None:
    layer = next((int(part) for part in each.path.split(".") if part.isdecimal()), None)
    if layer is None:
        return None
    general = replace(each, path=_with_placeholder(each.path, layer), reason=_with_placeholder(each.reason, layer))
    return (general, layer) if _unpaired_of_layer(general, layer) == each else None


def _unpaired_of_layer(general: Unpaired, layer: int) -> Unpaired:
    path, reason = (text.replace("{i}", str(layer)) for text in (general.path, general.reason))
    return replace(general, path=path, reason=reason)


def layers_as_text(layers: Iterable[int]) -> str:
    """0, 1, 2, 5 as `0-2, 5`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _layers_of(text: Any, where: str) -> tuple[int, ...]:
    layers: list[int] = []
    try:
        for run in str(text).split(","):
            first, _, last = run.strip().partition("-")
            layers += range(int(first), int(last or first) + 1)
    except ValueError:
        raise PairingError(f'{where}: layers = {text!r}; give numbers and ranges, e.g. "0-15, 17"') from None
    if not layers:
        raise PairingError(f"{where}: layers = {text!r} names no layer")
    return tuple(layers)


def _with_placeholder(text: str, layer: int) -> str:
    """A path, or a text with paths in it, with `{i}` for the first part of each path that is the layer's number."""
    words = []
    for word in text.split(" "):
        parts = word.split(".")
        bare = [part.strip(",;()[]") for part in parts]
        if len(parts) > 1 and str(layer) in bare:
            place = bare.index(str(layer))
            parts[place] = parts[place].replace(str(layer), "{i}")
        words.append(".".join(parts))
    return " ".join(words)


def _table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"[[{name}]]"]
    for key, value in values.items():
        if key == "layers":
            value = layers_as_text(value)
        if value not in (None, "") or key in _ALWAYS:
            lines.append(_line(key, value))
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """A TOML basic string; control characters, which may not stand in one, by their numbers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04X}" for c in escaped) + '"'


def _tables(content: Mapping[str, Any], name: str, origin: str) -> list[Mapping[str, Any]]:
    tables = content.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise PairingError(f"{origin}: {name} is not a list of tables; write [[{name}]] before each")
    return tables


def _checked(table: Mapping[str, Any], keys: Iterable[str], needed: Iterable[str], where: str) -> None:
    if unknown := sorted(set(table) - set(keys)):
        raise PairingError(f"{where}: {', '.join(unknown)} is none of {', '.join(keys)}")
    for key in needed:
        if not isinstance(table.get(key), str):
            raise PairingError(f"{where}: {key} is missing or no text")


def _pairs(table: Mapping[str, Any], number: int, origin: str) -> Iterator[PlannedPair]:
    where = f"{origin}, pair {number} ({table.get('boundary', 'without a boundary')})"
    _checked(table, _PAIR_KEYS, ("boundary", "port", "reference"), where)
    found_by = table.get("found_by", "mapping")
    if found_by not in get_args(FoundBy):
        raise PairingError(f"{where}: found_by = {found_by!r} is none of {', '.join(get_args(FoundBy))}")
    layout = {name: _value(table[name]) for name in _LAYOUT if name in table}
    try:
        pair = Pair(table["boundary"], table["port"], table["reference"], PairLayout(**layout))
    except PairingError as error:
        raise PairingError(f"{where}: {error}") from error
    because = str(table.get("because", ""))
    if "layers" not in table:
        yield PlannedPair(pair, found_by, because)
        return
    for layer in _layers_of(table["layers"], where):
        yield PlannedPair(pair.of_layer(layer), found_by, because.replace("{i}", str(layer)))


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _left(table: Mapping[str, Any], name: str, number: int, origin: str) -> Iterator[Unpaired]:
    where = f"{origin}, {name} {number}"
    _checked(table, _UNPAIRED_KEYS, ("path", "class_name", "reason"), where)
    left = Unpaired(table["path"], table["class_name"], table["reason"])
    if "layers" not in table:
        yield left
        return
    for layer in _layers_of(table["layers"], where):
        yield _unpaired_of_layer(left, layer)
