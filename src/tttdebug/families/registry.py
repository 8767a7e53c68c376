# SPDX-License-Identifier: Apache-2.0
"""Which families there are: a file each in this package, entry points of other packages, files that a user names."""

from __future__ import annotations

import difflib
import pkgutil
import runpy
import traceback
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from tttdebug.errors import FamilyError
from tttdebug.families.family import Family

ENTRY_POINTS = "tttdebug.families"
_from_files: dict[str, Family] = {}


def all_families() -> tuple[Family, ...]:
    """Every family by name: the package's own, those of entry points, and those registered from files.

    Raises FamilyError for an entry point that gives none.
    """
    families = {**_in_package(), **_from_entry_points(), **_from_files}
    return tuple(families[name] for name in sorted(families))


def register_file(path: str | Path) -> Family:
    """Read FILE.py, which defines `FAMILY`, and let models be of that family; it goes before others of its name.

    Raises FamilyError, with the line, when the file has an error in it or defines no family; nothing is registered.
    """
    path = Path(path)
    if not path.is_file():
        raise FamilyError(f"--family {path}: there is no such file; give a Python file that defines FAMILY")
    try:
        found = runpy.run_path(str(path)).get("FAMILY")
    except Exception as error:
        raise FamilyError(f"{path}:{_line_of(error, path)}: {type(error).__name__}: {error}; mend the file") from error
    family = _checked(found, str(path))
    _from_files[family.name] = family
    return family


def family_for(model: Any) -> Family:
    """The family of a Hugging Face model, by its class and its config.

    Raises FamilyError naming those supported, the nearest first.
    """
    wanted = {type(model).__name__, *(getattr(model.config, "architectures", None) or ())}
    known = {architecture: family for family in reversed(all_families()) for architecture in family.architectures}
    known |= {architecture: family for family in _from_files.values() for architecture in family.architectures}
    for architecture in sorted(wanted & known.keys()):
        return known[architecture].for_model(model)
    supported = ", ".join(family.name for family in all_families())
    raise FamilyError(
        f"no family fits the architecture {' or '.join(sorted(wanted))}; {_nearest(model, min(wanted))}. "
        "Write a family file with a table of its config, modules and weights (--family FILE.py, see "
        f"docs/adding-a-family.md), or take a model of {supported}"
    )


def _nearest(model: Any, architecture: str) -> str:
    """Which family has most of its modules in a model, and what is missing."""
    present = {name for name, _ in model.named_modules()}

    def likeness(family: Family) -> tuple[float, float]:
        names = _module_names(family.for_model(model))
        same_name = difflib.SequenceMatcher(None, architecture, family.architectures[0]).ratio()
        return sum(name in present for name in names) / len(names), same_name

    family = max(all_families(), key=likeness)
    names = _module_names(family.for_model(model))
    said = f"the nearest is {family.name} ({family.architectures[0]})"
    if lacking := [name for name in names if name not in present]:
        return f"{said}, of whose {len(names)} modules it lacks {', '.join(lacking)}"
    return f"{said}, all of whose modules it has, but its config or its weights may say something else"


def _module_names(family: Family) -> list[str]:
    """What a family calls the modules of the first layer and those outside of layers."""
    return [family.reference_name(pair.of_layer(0).reference) for pair in family.pairs]


@cache
def _in_package() -> dict[str, Family]:
    package = import_module("tttdebug.families")
    modules = (import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__))
    return {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}


@cache
def _from_entry_points() -> dict[str, Family]:
    families = [_loaded(entry) for entry in entry_points(group=ENTRY_POINTS)]
    return {family.name: family for family in families}


def _loaded(entry: EntryPoint) -> Family:
    origin = f"the entry point {entry.name} = {entry.value!r} of {ENTRY_POINTS}"
    try:
        found = entry.load()
    except Exception as error:
        raise FamilyError(f"{origin}: {type(error).__name__}: {error}; mend or remove that package") from error
    return _checked(found, origin)


def _checked(found: object, origin: str) -> Family:
    if not isinstance(found, Family):
        raise FamilyError(f"{origin} defines {type(found).__name__} as FAMILY; give a tttdebug.families.Family")
    if not (found.name and found.architectures and found.pairs):
        raise FamilyError(f"{origin}: the family has no name, no architectures or no pairs; give all three")
    return found


def _line_of(error: BaseException, path: Path) -> int:
    """The last line of the file that had a part in an error."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return next((line for line in reversed(lines) if line is not None), 1)
