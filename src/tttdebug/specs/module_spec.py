# SPDX-License-Identifier: Apache-2.0
"""What every spec can do: be validated, compared, changed, written as JSON and read back, shown in short, priced."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from tttdebug.specs.builders import BuilderAttribute
from tttdebug.specs.cost import Cost, Phase, Workload
from tttdebug.specs.validation import (
    TILE,
    InvalidSpecError,
    Rule,
    Violation,
    settle,
    spec_fields,
    unknown_field,
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

    builder = BuilderAttribute()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        ModuleSpec.KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `InvalidSpecError` with all violations; a spec that was built has passed this already."""
        if violations := settle(self, self.RULES):
            raise InvalidSpecError(type(self).__name__, violations)

    def replace(self: AnySpec, **changes: Any) -> AnySpec:
        """This spec with some fields changed, validated anew.

        A field that holds what it would be computed to (`head_dim == hidden_dim // num_heads`) is computed again,
        so `AttentionSpec(4096, 32).replace(num_heads=16).head_dim` is 256. Name it among the changes to keep it.
        """
        fields = spec_fields(type(self))
        if unknown := [unknown_field(type(self), name) for name in changes if name not in fields]:
            raise InvalidSpecError(type(self).__name__, unknown)
        computed = self._computed_fields()
        return type(self)(**{**{name: getattr(self, name) for name in fields if name not in computed}, **changes})

    def _computed_fields(self) -> set[str]:
        """The names of the fields that hold the value they would be computed to."""
        fields = spec_fields(type(self)).values()
        return {
            field.name
            for field in fields
            if field.derivation is not None and field.derivation.compute(self) == getattr(self, field.name)
        }

    def notes(self) -> tuple[Note, ...]:
        """What is allowed but costs something: sizes that TTNN pads because they are no multiple of its 32x32 tile."""
        notes = []
        for field in spec_fields(type(self)).values():
            value = getattr(self, field.name)
            if field.is_tiled and value is not None and value % TILE:
                padded = -(-value // TILE) * TILE
                notes.append(Note(field.name, value, f"not a multiple of {TILE}, TTNN pads it to {padded}"))
        for path, parts in self._parts():
            notes += [dataclasses.replace(note, field=f"{path}.{note.field}") for note in parts[0].notes()]
        return tuple(notes)

    def _parts(self) -> Iterator[tuple[str, tuple[ModuleSpec, ...]]]:
        """The specs inside this one with their paths; equal ones in a tuple together, as `layers[0-31]`."""
        for name in spec_fields(type(self)):
            value = getattr(self, name)
            if isinstance(value, ModuleSpec):
                yield name, (value,)
            elif isinstance(value, tuple):
                for part, indices in _places(value).items():
                    yield f"{name}[{_ranges(indices)}]", (part,) * len(indices)

    def cost(self, batch: int = 1, seq_len: int = 1, phase: Phase = "prefill") -> Cost:
        """Flops, weights, activations and KV cache of one call (see cost.py for what is counted).

        In `prefill` all `seq_len` positions of each of `batch` sequences go through the module; in `decode` one does,
        with `seq_len` positions in the KV cache, its own included.
        """
        return self._cost(Workload(batch, seq_len, phase))

    def _cost(self, workload: Workload) -> Cost:
        """What this spec costs: the sum of the specs inside it, unless a class knows better."""
        return sum((part._cost(workload) for _, parts in self._parts() for part in parts), Cost())

    def to_dict(self) -> dict[str, Any]:
        """This spec as JSON-able values: its kind, a schema version, every field (computed ones too), nested specs."""
        return {"schema_version": SCHEMA_VERSION, **_plain(self)}

    @classmethod
    def from_dict(cls: type[AnySpec], data: Mapping[str, Any]) -> AnySpec:
        """The spec that `to_dict` wrote; on `ModuleSpec` itself, of whatever kind.

        Raises:
            InvalidSpecError: listing unknown keys, missing and impossible values of this spec and of all inside it.
        """
        version = data.get("schema_version", dataclasses.MISSING)
        if version != SCHEMA_VERSION:
            rule = f"must be {SCHEMA_VERSION}, the schema that this version of tttdebug reads"
            violation = Violation("schema_version", version, rule, "read it with the tttdebug that wrote it")
            raise InvalidSpecError(cls.__name__, [violation])
        return cls._read({key: value for key, value in data.items() if key != "schema_version"})

    @classmethod
    def _read(cls: type[AnySpec], data: Mapping[str, Any]) -> AnySpec:
        kind = data.get("kind", cls.__name__)
        found = ModuleSpec.KINDS.get(kind) if isinstance(kind, str) else None
        if found is None or not issubclass(found, cls):
            kinds = ", ".join(sorted(name for name, known in ModuleSpec.KINDS.items() if issubclass(known, cls)))
            violation = Violation("kind", kind, f"must be one of {kinds}", "say which spec these values describe")
            raise InvalidSpecError(cls.__name__, [violation])
        fields = spec_fields(found)
        violations = [unknown_field(found, key) for key in data if key != "kind" and key not in fields]
        values: dict[str, Any] = {}
        wrong = set()
        for name, field in fields.items():
            if name in data:
                values[name], inside = _read_value(data[name], name)
            elif field.is_required:
                values[name], inside = None, [field.missing()]
            else:
                values[name], inside = field.default, []
            violations += inside
            wrong |= {name} if inside else set()
        if not violations:
            return found(**values)
        draft = object.__new__(found)
        for name, value in values.items():
            object.__setattr__(draft, name, value)
        raise InvalidSpecError(found.__name__, violations + settle(draft, found.RULES, suspect=wrong))

    def __repr__(self) -> str:
        computed = self._computed_fields()
        values = {name: (getattr(self, name), field.default) for name, field in spec_fields(type(self)).items()}
        shown = [
            f"{name}={_brief(value)}"
            for name, (value, default) in values.items()
            if name not in computed and value != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _places(values: tuple[Any, ...]) -> dict[Any, list[int]]:
    """The distinct values, in the order in which they first appear, each with the indices it stands at."""
    places: dict[Any, list[int]] = {}
    for index, value in enumerate(values):
        places.setdefault(value, []).append(index)
    return places


def _ranges(indices: list[int]) -> str:
    """Ascending indices in short: `0-4,6`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _plain(value: Any) -> Any:
    if isinstance(value, ModuleSpec):
        return {
            "kind": type(value).__name__,
            **{name: _plain(getattr(value, name)) for name in spec_fields(type(value))},
        }
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read_value(value: Any, path: str) -> tuple[Any, list[Violation]]:
    """A value of a dict as a spec wants it, and the violations in the specs inside it with their paths."""
    if isinstance(value, list):
        items = [_read_value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return tuple(item for item, _ in items), [violation for _, inside in items for violation in inside]
    if not isinstance(value, Mapping):
        return value, []
    try:
        return ModuleSpec._read(value), []
    except InvalidSpecError as error:
        return None, [violation.under(path) for violation in error.violations]


def _brief(value: Any) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    places = _places(value)
    if len(places) == 1:
        return f"{len(value)} x {value[0]!r}"
    return "{" + ", ".join(f"{_ranges(indices)}: {item!r}" for item, indices in places.items()) + "}"
