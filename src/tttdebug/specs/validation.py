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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
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
            raise Unfit(f"must be one of {', '.join(arguments)}", _closest(value, arguments))
        return value
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise Unfit(f"must be a tuple of {type_name(arguments[0])}", f"not {_kind(value)}")
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
    raise Unfit(f"must be {' or '.join(type_name(member) for member in others)}", f"not {_kind(value)}")


def _fit_plain(value: Any, expected: type) -> Any:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if expected is int and is_number and isinstance(value, numbers.Integral):
        return int(value)
    if expected is float and is_number and math.isfinite(value):
        return float(value)
    if expected not in (int, float) and isinstance(value, expected):
        return value
    raise Unfit(f"must be {type_name(expected)}", f"not {_kind(value)}")


def type_name(hint: Any) -> str:
    """An annotation in words: `a whole number`, `true or false`, `NormSpec`."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    words = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}
    return words.get(plain) or str(getattr(plain, "__name__", plain))


def _kind(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "nothing (None)" if value is None else f"{type(value).__name__}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _closest(value: object, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "choose one of these"


@cache
def field_hints(spec_class: type) -> dict[str, Any]:
    """The annotation of every field of a spec class, in order, with its checks."""
    hints = get_type_hints(spec_class, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(spec_class)}


@cache
def derivations(spec_class: type) -> dict[str, Derivation]:
    """The fields of a spec class that follow from others when they are not given."""
    fields = dataclasses.fields(spec_class)
    return {field.name: field.metadata["derivation"] for field in fields if "derivation" in field.metadata}


def settle(spec: Any, rules: Iterable[Rule]) -> None:
    """Bring a spec that is being built into its final form: fit every field, derive what was left out, ask every rule.

    Raises:
        InvalidSpecError: listing all violations at once. A rule is asked only when all the fields it reads are valid.
    """
    violations: list[Violation] = []
    suspect: set[str] = set()

    def place(name: str, value: Any) -> None:
        try:
            object.__setattr__(spec, name, fit(value, field_hints(type(spec))[name]))
        except Unfit as unfit:
            violations.append(unfit.violation(name, value))
            suspect.add(name)

    left_out = {name: how for name, how in derivations(type(spec)).items() if getattr(spec, name) is None}
    for name in field_hints(type(spec)):
        if name not in left_out:
            place(name, getattr(spec, name))
    for name, how in left_out.items():
        if not suspect.isdisjoint(how.needs):
            suspect.add(name)
        elif (value := how.compute(spec)) is None and how.otherwise is not None:
            violations.append(how.otherwise.violation(spec))
            suspect.add(name)
        else:
            place(name, value)
    for rule in rules:
        if suspect.isdisjoint((rule.field, *rule.needs)) and not rule.holds(spec):
            violations.append(rule.violation(spec))
    if violations:
        raise InvalidSpecError(type(spec).__name__, violations)
