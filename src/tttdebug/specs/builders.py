# SPDX-License-Identifier: Apache-2.0
"""The attribute `builder` of every spec class.

Type checkers read the generated builders.pyi instead: it gives `AttentionSpec.builder` the type of a builder with a
method per field, by an overload per spec class. The classes named there exist for them; here they are made on demand.
"""

from __future__ import annotations

from typing import Any

from tttdebug.specs.builder import SpecBuilder, builder_class


class BuilderAttribute:
    """Looked up on a spec class, gives that class's builder class."""

    def __get__(self, instance: object, owner: type) -> type[SpecBuilder[Any]]:
        return builder_class(owner)
