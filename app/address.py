# SPDX-License-Identifier: Apache-2.0
"""What is being looked at. It lives in the page's address, so that reload, back and a sent link show the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn, TypeVar

import streamlit as st

# Not in a folder "pages": Streamlit runs the scripts of such a folder by themselves when a link to one comes first.
RUNS, OVERVIEW, LAYER, MODULE = "views/runs.py", "views/overview.py", "views/layer.py", "views/module.py"
TOKENS, CACHE = "views/tokens.py", "views/cache.py"
PRECISION, COMPARE = "views/precision.py", "views/compare.py"

Option = TypeVar("Option")


@dataclass(frozen=True)
class Address:
    """The parts of the address; None where it says nothing. Numbers stay text: an address can hold anything.

    `against` are the runs that `run` is compared with.
    """

    run: str | None = None
    boundary: str | None = None
    phase: str | None = None
    step: str | None = None
    user: str | None = None
    mode: str | None = None
    by: str | None = None
    token: str | None = None
    kind: str | None = None
    find: str | None = None
    outcome: str | None = None
    against: tuple[str, ...] = ()
    element: str | None = None
    zoom: str | None = None
    values: str | None = None

    @classmethod
    def current(cls) -> Address:
        single = cls.__dataclass_fields__.keys() - {"against"}
        return cls(
            **{name: st.query_params.get(name) for name in single}, against=tuple(st.query_params.get_all("against"))
        )

    @classmethod
    def set(cls, **changes: object) -> None:
        """Change parts of the address while staying on the page; for callbacks."""
        st.query_params.from_dict(cls.current().at(**changes).params)

    @property
    def params(self) -> dict[str, Any]:
        """What stands after the question mark; a part that is said several times is a list."""
        said = asdict(self) | {"against": list(self.against)}
        return {name: value for name, value in said.items() if value}

    def at(self, **changes: object) -> Address:
        """This address with some parts changed, None removes one."""
        said: dict[str, Any] = {
            name: value if value is None or isinstance(value, tuple) else str(value) for name, value in changes.items()
        }
        return replace(self, **said)


def go(page: str, address: Address) -> NoReturn:
    """Leave for another page."""
    st.switch_page(page, query_params=address.params)


def link(page: str, address: Address, label: str, **options: Any) -> None:
    """A link to a page at an address. `label` is Markdown."""
    st.page_link(page, label=label, query_params=address.params, **options)


def choose(
    label: str,
    options: Sequence[Option],
    current: Option | None,
    parts: Callable[[Option], dict[str, object]],
    widget: Callable[..., Any] = st.selectbox,
    **look: Any,
) -> Option:
    """A widget whose value is a part of the address: choosing an option changes the address by its `parts`."""
    key = f"choose {label}"

    def remember() -> None:
        if st.session_state[key] != current:  # a widget that comes back to the page reports a change that is none
            Address.set(**parts(st.session_state[key]))

    st.session_state[key] = current
    chosen: Option = widget(label, options, key=key, on_change=remember, **look)
    return chosen
