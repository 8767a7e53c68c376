# SPDX-License-Identifier: Apache-2.0
"""Objects that stand in for specs: why one does not satisfy a protocol, and the spec that one amounts to.

A module calls `as_spec` on what it is given, so that all it computes from is a validated spec, whoever wrote the class.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tttdebug.errors import SpecError
from tttdebug.specs import protocols
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.validation import InvalidSpecError, Unfit, Violation, fit, spec_fields, type_name

AnySpec = TypeVar("AnySpec", bound=ModuleSpec)


def as_spec(candidate: object, spec_class: type[AnySpec]) -> AnySpec:
    """The `spec_class` that `candidate` stands for; itself if it is one already.

    Reads every field that the object has under the spec's name for it. A field that the protocol does not ask for and
    the object does not have takes the spec's default, as in the spec's constructor.

    Raises:
        InvalidSpecError: when the object does not satisfy the protocol, or its values make no valid spec.
    """
    if isinstance(candidate, spec_class):
        return candidate
    subject = f"{type(candidate).__name__} as {spec_class.__name__}"
    if mismatches := explain_mismatch(candidate, protocol_of(spec_class)):
        raise InvalidSpecError(subject, mismatches)
    values: dict[str, Any] = {}
    violations: list[Violation] = []
    for name, field in spec_fields(spec_class).items():
        if hasattr(candidate, name):
            try:
                values[name] = _as_field(getattr(candidate, name), field.hint)
            except InvalidSpecError as error:
                violations += [violation.under(name) for violation in error.violations]
    if violations:
        raise InvalidSpecError(subject, violations)
    return spec_class(**values)


def explain_mismatch(candidate: object, protocol: type) -> tuple[Violation, ...]:
    """Why `candidate` does not satisfy a protocol such as `AttentionSpecLike`: a line each; empty when it does.

    Stricter than isinstance, which asks whether the members are there, not what they hold.
    """
    return tuple(_mismatches(candidate, protocol))


def protocol_of(spec_class: type[ModuleSpec]) -> type:
    """The protocol that objects standing in for a spec class satisfy. Raises SpecError for a class that has none."""
    protocol = getattr(protocols, f"{spec_class.__name__}Like", None)
    if protocol is None:
        raise SpecError(f"{spec_class.__name__} has no protocol: give an object of that class itself")
    return protocol


def _mismatches(candidate: object, protocol: type) -> Iterator[Violation]:
    for name, hint in _members(protocol).items():
        if hasattr(candidate, name):
            yield from _value_mismatches(getattr(candidate, name), hint, name)
        else:
            public = [other for other in dir(candidate) if not other.startswith("_")]
            near = difflib.get_close_matches(name, public, n=1)
            suggestion = f"{near[0]} is there; is it meant?" if near else f"give {type_name(hint)}"
            yield Violation(name, dataclasses.MISSING, "is missing", suggestion)


def _value_mismatches(value: Any, hint: Any, path: str) -> Iterator[Violation]:
    choices = [choice for choice in _alternatives(hint) if choice is not type(None)]
    if inspect.isroutine(value):
        yield Violation(path, dataclasses.MISSING, "is a method", "make it a property or an attribute")
    elif value is None and len(choices) < len(_alternatives(hint)):
        return
    elif get_origin(hint) is Sequence:
        if isinstance(value, (tuple, list)):
            for index, item in enumerate(value):
                yield from _value_mismatches(item, get_args(hint)[0], f"{path}[{index}]")
        else:
            yield Violation(path, value, "must be a tuple or a list", f"this is of type {type(value).__name__}")
    elif _is_protocol(choices[0]):
        closest = min((list(_mismatches(value, choice)) for choice in choices), key=len)
        yield from (violation.under(path) for violation in closest)
    else:
        try:
            fit(value, hint)
        except Unfit as unfit:
            yield unfit.violation(path, value)


def _as_field(value: Any, hint: Any) -> Any:
    """A field's value with every stand-in in it made a spec."""
    if get_origin(hint) is Annotated:
        return _as_field(value, get_args(hint)[0])
    if get_origin(hint) is tuple and isinstance(value, (tuple, list)):
        return tuple(_as_field(item, get_args(hint)[0]) for item in value)
    specs = [choice for choice in _alternatives(hint) if isinstance(choice, type) and issubclass(choice, ModuleSpec)]
    if not specs or value is None or isinstance(value, tuple(specs)):
        return value
    return as_spec(value, min(specs, key=lambda spec: len(explain_mismatch(value, protocol_of(spec)))))


def _members(protocol: type) -> dict[str, Any]:
    properties = {name: member for name, member in vars(protocol).items() if isinstance(member, property)}
    return {name: get_type_hints(member.fget)["return"] for name, member in properties.items()}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_protocol(hint: Any) -> bool:
    return bool(getattr(hint, "_is_protocol", False))
