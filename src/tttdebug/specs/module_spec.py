# SPDX-License-Identifier: Apache-2.0
"""What every spec can do: be validated, compared, changed, written as JSON and read back, and shown in short."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from tttdebug.specs.validation import (
    TILE,
    InvalidSpecError,
    Rule,
    TileNote,
    Violation,
    derivations,
    field_hints,
    settle,
)

SCHEMA_VERSION = 1
AnySpec = TypeVar("AnySpec", bound="ModuleSpec")


@dataclass(frozen=True)
class Note:
    """Something worth knowing about a valid spec: the field's path, its value, and what follows from it."""

    field: str
    value: object
    message: str

    def __str__(self) -> str:
        return f"{self.field}={self.value}: {self.message}"


@dataclass(frozen=True, repr=False)
class ModuleSpec:
    """Base of all specs: frozen, hashable, equal when all fields are equal, valid from the moment it exists.

    A field whose default is None and that follows from others (`head_dim`) holds the computed value after building.
    """

    RULES: ClassVar[tuple[Rule, ...]] = ()
    KINDS: ClassVar[dict[str, type[ModuleSpec]]] = {}  # every spec class by its name, which is its `kind` in JSON

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        ModuleSpec.KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `InvalidSpecError` with all violations; a spec that was built has passed this already."""
        settle(self, self.RULES)

    def replace(self: AnySpec, **changes: Any) -> AnySpec:
        """This spec with some fields changed, validated anew.

        A field that holds what it would be computed to (`head_dim == hidden_dim // num_heads`) is computed again,
        so `AttentionSpec(4096, 32).replace(num_heads=16).head_dim` is 256. Name it among the changes to keep it.
        """
        unknown = [name for name in changes if name not in field_hints(type(self))]
        if unknown:
            raise InvalidSpecError(type(self).__name__, [_unknown_field(type(self), name) for name in unknown])
        values = {name: getattr(self, name) for name in field_hints(type(self)) if name not in self._computed()}
        return type(self)(**{**values, **changes})

    def _computed(self) -> set[str]:
        """The names of the fields that hold the value they would be computed to."""
        return {name for name, how in derivations(type(self)).items() if how.compute(self) == getattr(self, name)}

    def notes(self) -> tuple[Note, ...]:
        """What is allowed but costs something: sizes that TTNN pads because they are no multiple of its 32x32 tile."""
        return tuple(itertools.chain(self._tile_notes(), *(spec._notes_under(path) for path, spec in self._children())))

    def _tile_notes(self) -> Iterator[Note]:
        for name, hint in field_hints(type(self)).items():
            value = getattr(self, name)
            if _is_tiled(hint) and value is not None and value % TILE:
                padded = -(-value // TILE) * TILE
                yield Note(
                    name, value, f"not a multiple of {TILE}; TTNN pads it to {padded} in every tile it stands in"
                )

    def _notes_under(self, path: str) -> Iterator[Note]:
        return (dataclasses.replace(note, field=f"{path}.{note.field}") for note in self.notes())

    def _children(self) -> Iterator[tuple[str, ModuleSpec]]:
        """The specs inside this one with their paths; equal neighbours in a tuple once, as `layers[0..31]`."""
        for name in field_hints(type(self)):
            value = getattr(self, name)
            if isinstance(value, ModuleSpec):
                yield name, value
            elif isinstance(value, tuple):
                for first, last, item in _runs(value):
                    if isinstance(item, ModuleSpec):
                        yield (f"{name}[{first}]" if first == last else f"{name}[{first}..{last}]"), item

    def to_dict(self) -> dict[str, Any]:
        """This spec as JSON-able values: its kind, a schema version, every field (computed ones too), nested specs."""
        return {"schema_version": SCHEMA_VERSION, **self._as_dict()}

    def _as_dict(self) -> dict[str, Any]:
        fields = {name: _plain(getattr(self, name)) for name in field_hints(type(self))}
        return {"kind": type(self).__name__, **fields}

    @classmethod
    def from_dict(cls: type[AnySpec], data: Mapping[str, Any]) -> AnySpec:
        """The spec that `to_dict` wrote; on `ModuleSpec` itself, of whatever kind.

        Raises:
            InvalidSpecError: listing unknown keys, missing or impossible values of this spec and all inside it.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            rule = f"must be {SCHEMA_VERSION}, the schema this version of tttdebug reads"
            found = data.get("schema_version", dataclasses.MISSING)
            violation = Violation("schema_version", found, rule, "read it with the tttdebug that wrote it")
            raise InvalidSpecError(cls.__name__, [violation])
        return cls._read({key: value for key, value in data.items() if key != "schema_version"})

    @classmethod
    def _read(cls: type[AnySpec], data: Mapping[str, Any]) -> AnySpec:
        kind = data.get("kind", cls.__name__)
        found = ModuleSpec.KINDS.get(kind)
        if found is None or not issubclass(found, cls):
            kinds = ", ".join(sorted(name for name, known in ModuleSpec.KINDS.items() if issubclass(known, cls)))
            raise InvalidSpecError(
                cls.__name__, [Violation("kind", kind, f"must be one of {kinds}", "choose one of these")]
            )
        hints = field_hints(found)
        violations = [_unknown_field(found, key) for key in data if key != "kind" and key not in hints]
        values: dict[str, Any] = {}
        for name in hints:
            if name in data:
                values[name] = _read_value(data[name], name, violations)
        violations += missing_fields(found, values)
        if violations:
            raise InvalidSpecError(found.__name__, violations)
        return found(**values)

    def __repr__(self) -> str:
        computed = self._computed()
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in computed and (field.default is dataclasses.MISSING or value != field.default):
                shown.append(f"{field.name}={_brief(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def missing_fields(spec_class: type[ModuleSpec], values: Mapping[str, Any]) -> list[Violation]:
    """A violation for every field of a spec class that has no default and no value."""
    return [
        Violation(field.name, dataclasses.MISSING, "is missing", f"{spec_class.__name__} cannot be built without it")
        for field in dataclasses.fields(spec_class)
        if field.default is dataclasses.MISSING and field.name not in values
    ]


def _unknown_field(spec_class: type[ModuleSpec], name: str) -> Violation:
    known = ", ".join(field_hints(spec_class))
    return Violation(name, dataclasses.MISSING, f"is no field of {spec_class.__name__}", f"its fields are {known}")


def _is_tiled(hint: Any) -> bool:
    return any(
        isinstance(part, TileNote) or (get_origin(part) is not None and _is_tiled(part)) for part in get_args(hint)
    )


def _runs(values: tuple[Any, ...]) -> Iterator[tuple[int, int, Any]]:
    """First index, last index and value of every run of equal neighbours."""
    first = 0
    for value, group in itertools.groupby(values):
        last = first + len(list(group)) - 1
        yield first, last, value
        first = last + 1


def _plain(value: Any) -> Any:
    if isinstance(value, ModuleSpec):
        return value._as_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read_value(value: Any, path: str, violations: list[Violation]) -> Any:
    if isinstance(value, list):
        return tuple(_read_value(item, f"{path}[{index}]", violations) for index, item in enumerate(value))
    if not isinstance(value, Mapping):
        return value
    try:
        return ModuleSpec._read(value)
    except InvalidSpecError as error:
        violations += [violation.under(path) for violation in error.violations]
        return None


def _brief(value: Any) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    parts = []
    for first, last, item in _runs(value):
        parts.append(repr(item) if first == last else f"{last - first + 1} x {item!r}")
    return f"({', '.join(parts)})"
