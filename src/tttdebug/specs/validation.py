# SPDX-License-Identifier: Apache-2.0
"""Checking a spec: what each field may hold, what fields owe each other, and the error that lists every violation.

A spec says its rules in two tables. Rules of one field stand in its annotation; rules between fields in `RULES`:

    class NormSpec(ModuleSpec):
        hidden_dim: Dim                                       # Annotated[int, at_least(1), TILED]
        eps: Annotated[float, above(0.0)] = 1e-5
        RULES = (Rule("bias", needs=("norm_type",), holds=..., says=..., suggestion=...),)
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tttdebug.errors import SpecError

TILE = 32  # rows and columns of a TTNN tile


@dataclass(frozen=True)
class Violation:
    """One thing wrong with one field: its path, its value, the rule it breaks, and what to write instead."""

    field: str
    value: object
    rule: str
    suggestion: str

    def __str__(self) -> str:
        value = "" if self.value is dataclasses.MISSING else f"={_short(self.value)}"
        return f"{self.field}{value} {self.rule}: {self.suggestion}"

    def under(self, path: str) -> Violation:
        """The same violation seen from the spec that holds this one in `path`."""
        return dataclasses.replace(self, field=f"{path}.{self.field}")


class InvalidSpecError(SpecError):
    """A spec breaks its rules; `violations` holds all of them, the message lists them."""

    def __init__(self, subject: str, violations: Iterable[Violation]) -> None:
        self.subject = subject
        self.violations = tuple(violations)
        if len(self.violations) == 1:
            message = f"{subject}: {self.violations[0]}"
        else:
            lines = "".join(f"\n  {violation}" for violation in self.violations)
            message = f"{subject} breaks {len(self.violations)} rules:{lines}"
        super().__init__(message)


@dataclass(frozen=True)
class Check:
    """A rule of one field's value, written into its annotation."""

    rule: str
    holds: Callable[[Any], bool]
    suggestion: Callable[[Any], str]


@dataclass(frozen=True)
class TileNote:
    """Marks a size that TTNN pads to whole tiles; a value off the tile is worth a note, never an error."""


@dataclass(frozen=True)
class Rule:
    """A rule between fields: `field` takes the blame, `needs` are the others that must be valid before it is asked.

    `says` and `suggestion` are format strings over `spec`, or functions of it.
    """

    field: str
    needs: tuple[str, ...]
    holds: Callable[[Any], bool]
    says: str
    suggestion: str | Callable[[Any], str]

    def violation(self, spec: object) -> Violation:
        """This rule's violation by `spec`."""
        suggestion = self.suggestion(spec) if callable(self.suggestion) else self.suggestion.format(spec=spec)
        return Violation(self.field, getattr(spec, self.field), self.says.format(spec=spec), suggestion)


@dataclass(frozen=True)
class Derivation:
    """How a field that was not given follows from others; `compute` gives None where `otherwise` is broken."""

    needs: tuple[str, ...]
    compute: Callable[[Any], Any]
    otherwise: Rule | None = None


def derived(*needs: str, compute: Callable[[Any], Any], otherwise: Rule | None = None) -> Any:
    """A dataclass field that is computed from the fields `needs` when it is left out or None."""
    return dataclasses.field(default=None, metadata={"derivation": Derivation(needs, compute, otherwise)})


def at_least(bound: int) -> Check:
    """The value must be `bound` or more."""
    return Check(f"must be at least {bound}", lambda value: value >= bound, lambda value: f"give {bound} or more")


def above(bound: float) -> Check:
    """The value must be greater than `bound`."""
    return Check(
        f"must be greater than {bound:g}", lambda value: value > bound, lambda value: f"give more than {bound:g}"
    )


EVEN = Check("must be even", lambda value: value % 2 == 0, lambda value: f"take {value - 1} or {value + 1}")
NOT_EMPTY = Check("must not be empty", lambda value: len(value) > 0, lambda value: "give at least one")
TILED = TileNote()

Count = Annotated[int, at_least(1)]
Dim = Annotated[int, at_least(1), TILED]
Positive = Annotated[float, above(0.0)]


class Unfit(Exception):  # noqa: N818 - a signal between the functions of this file and the builder, never the user's
    """A value does not fit its field: the rule and the suggestion of the violation to report."""

    def __init__(self, rule: str, suggestion: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.suggestion = suggestion

    def violation(self, field: str, value: object) -> Violation:
        """The violation of `field` that this stands for."""
        return Violation(field, value, self.rule, self.suggestion)


def fit(value: Any, hint: Any) -> Any:
    """`value` as the annotation `hint` wants it (1 becomes 1.0, a list a tuple); raises `Unfit` when it cannot be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = fit(value, arguments[0])
        for check in arguments[1:]:
            if isinstance(check, Check) and not check.holds(value):
                raise Unfit(check.rule, check.suggestion(value))
        return value
    if origin in (Union, types.UnionType):
        return _fit_union(value, arguments)
    if origin is Literal:
        if value not in arguments or not isinstance(value, str):
            raise Unfit(f"must be {type_name(hint)}", _closest(value, arguments))
        return value
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise Unfit(f"must be {type_name(hint)}", f"this is {_kind(value)}")
        return tuple(fit(item, arguments[0]) for item in value)
    return _fit_plain(value, hint)


def _fit_union(value: Any, members: Sequence[Any]) -> Any:
    if value is None and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        return fit(value, others[0])
    if isinstance(value, tuple(others)):
        return value
    raise Unfit(f"must be {' or '.join(type_name(member) for member in others)}", f"this is {_kind(value)}")


def _fit_plain(value: Any, expected: type) -> Any:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if expected is int and is_number and isinstance(value, numbers.Integral):
        return int(value)
    if expected is float and is_number and math.isfinite(value):
        return float(value)
    if expected not in (int, float) and isinstance(value, expected):
        return value
    raise Unfit(f"must be {type_name(expected)}", _instead(value, expected))


def _instead(value: Any, expected: type) -> str:
    """What to write for a value of the wrong type, where its meaning is plain."""
    if isinstance(value, str) and expected in (int, float) and value.strip().replace(".", "", 1).isdigit():
        return f"write {value.strip()} without the quotes"
    if isinstance(value, float) and expected is int and math.isfinite(value):
        return f"write {round(value)}"
    return f"this is {_kind(value)}"


def _metadata(hint: Any) -> Iterator[Any]:
    """Everything that stands in the `Annotated`s of an annotation, those of a union's members too."""
    if get_origin(hint) is Annotated:
        yield from get_args(hint)[1:]
    elif get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from _metadata(member)


def type_name(hint: Any) -> str:
    """An annotation in words: `a whole number`, `true or false`, `NormSpec`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join("None" if member is type(None) else type_name(member) for member in arguments)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        return f"a tuple of {type_name(arguments[0])}"
    words = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}
    return words.get(hint) or str(hint.__name__)


def _kind(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "None" if value is None else f"of type {type(value).__name__}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _closest(value: object, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "choose one of these"


@dataclass(frozen=True)
class SpecField:
    """One field of a spec class: its name, its annotation with the checks in it, its default, how it is derived."""

    name: str
    hint: Any
    default: Any  # dataclasses.MISSING where the field must be given
    derivation: Derivation | None

    @property
    def is_required(self) -> bool:
        """Whether a spec cannot be built without this field."""
        return self.default is dataclasses.MISSING

    @property
    def is_tiled(self) -> bool:
        """Whether TTNN pads this size to whole tiles."""
        return TILED in _metadata(self.hint)

    def violation(self, value: Any) -> Violation | None:
        """What is wrong with `value` for this field by itself; None when it fits or is to be derived."""
        if value is None and self.derivation is not None:
            return None
        try:
            fit(value, self.hint)
        except Unfit as unfit:
            return unfit.violation(self.name, value)
        return None

    def missing(self) -> Violation:
        """The violation of leaving this field out."""
        return Violation(self.name, dataclasses.MISSING, "is missing", f"give {type_name(self.hint)}")


_FIELDS: dict[type, dict[str, SpecField]] = {}


def spec_fields(spec_class: type) -> dict[str, SpecField]:
    """The fields of a spec class by name, in order."""
    if spec_class not in _FIELDS:
        hints = get_type_hints(spec_class, include_extras=True)
        _FIELDS[spec_class] = {
            field.name: SpecField(field.name, hints[field.name], field.default, field.metadata.get("derivation"))
            for field in dataclasses.fields(spec_class)
        }
    return _FIELDS[spec_class]


def unknown_field(spec_class: type, name: str) -> Violation:
    """The violation of naming a field that a spec class does not have."""
    known = list(spec_fields(spec_class))
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"did you mean {near[0]}?" if near else f"its fields are {', '.join(known)}"
    return Violation(name, dataclasses.MISSING, f"is no field of {spec_class.__name__}", suggestion)


def settle(spec: Any, rules: Iterable[Rule], suspect: Iterable[str] = ()) -> list[Violation]:
    """Bring a spec into its final form: fit every field, derive what was left out, ask every rule.

    Gives all violations at once. Fields that are `suspect`, known to be wrong already, are left alone, and nothing is
    derived from or asked about a field that is wrong.
    """
    violations: list[Violation] = []
    wrong = set(suspect)

    def place(field: SpecField, value: Any) -> None:
        try:
            object.__setattr__(spec, field.name, fit(value, field.hint))
        except Unfit as unfit:
            violations.append(unfit.violation(field.name, value))
            wrong.add(field.name)

    left_out = []
    for field in spec_fields(type(spec)).values():
        if field.derivation is not None and getattr(spec, field.name) is None:
            left_out.append((field, field.derivation))
        elif field.name not in wrong:
            place(field, getattr(spec, field.name))
    for field, derivation in left_out:
        if not wrong.isdisjoint((field.name, *derivation.needs)):
            wrong.add(field.name)
        elif (value := derivation.compute(spec)) is None and derivation.otherwise is not None:
            violations.append(derivation.otherwise.violation(spec))
            wrong.add(field.name)
        else:
            place(field, value)
    for rule in rules:
        if wrong.isdisjoint((rule.field, *rule.needs)) and not rule.holds(spec):
            violations.append(rule.violation(spec))
    return violations
