# SPDX-License-Identifier: Apache-2.0
"""Builders: `AttentionSpec.builder().hidden_dim(4096).num_heads(32).build()`, for every spec from its own fields.

`SpecBuilder` is the one implementation. A spec class's builder is a subclass made here with a method per field, so
that an interactive session completes them; `builders.pyi`, generated from the same fields, tells editors and type
checkers what those methods take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from tttdebug.specs.validation import InvalidSpecError, SpecField, spec_fields, type_name, unknown_field

AnySpec = TypeVar("AnySpec")


class SpecBuilder(Generic[AnySpec]):
    """A spec in the making. Setting a field again replaces its value.

    Raises:
        InvalidSpecError: when a value is set that its field cannot hold; in `build()`, listing every field that is
            missing or, when none is, every rule between fields that is broken.
    """

    spec_class: ClassVar[type[Any]]

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> SpecBuilder[AnySpec]:
        """Set the field `name`, like the method of that name."""
        field = spec_fields(self.spec_class).get(name)
        violation = unknown_field(self.spec_class, name) if field is None else field.violation(value)
        if violation is not None:
            raise InvalidSpecError(self.spec_class.__name__, [violation])
        self._values[name] = value
        return self

    def build(self) -> AnySpec:
        """The finished spec."""
        missing = [field for field in spec_fields(self.spec_class).values() if field.is_required]
        violations = [field.missing() for field in missing if field.name not in self._values]
        if violations:
            raise InvalidSpecError(self.spec_class.__name__, violations)
        spec: AnySpec = self.spec_class(**self._values)
        return spec

    def __repr__(self) -> str:
        calls = "".join(f".{name}({value!r})" for name, value in self._values.items())
        return f"{self.spec_class.__name__}.builder(){calls}"


_BUILDERS: dict[type, type[SpecBuilder[Any]]] = {}


def builder_class(spec_class: type) -> type[SpecBuilder[Any]]:
    """The builder class of a spec class, made when first asked for: `AttentionBuilder` for `AttentionSpec`."""
    if spec_class not in _BUILDERS:
        setters = {name: _setter(field) for name, field in spec_fields(spec_class).items()}
        body = {
            "spec_class": spec_class,
            "__doc__": f"Builder of {spec_class.__name__}.\n{SpecBuilder.__doc__}",
            **setters,
        }
        _BUILDERS[spec_class] = type(builder_name(spec_class), (SpecBuilder,), body)
    return _BUILDERS[spec_class]


def builder_name(spec_class: type) -> str:
    """What the builder of a spec class is called."""
    return f"{spec_class.__name__.removesuffix('Spec')}Builder"


def _setter(field: SpecField) -> Callable[[SpecBuilder[Any], Any], SpecBuilder[Any]]:
    def setter(self: SpecBuilder[Any], value: Any) -> SpecBuilder[Any]:
        return self.set(field.name, value)

    setter.__name__ = field.name
    setter.__doc__ = f"Set {field.name}: {type_name(field.hint)}."
    return setter
