# SPDX-License-Identifier: Apache-2.0
"""Building HTML and SVG from values: every text is escaped unless it was built here."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from tttdebug.reporting.wording import printable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
_VOID = frozenset({"meta", "br"})


def element(tag: str, /, *children: Child, **attributes: object) -> Markup:
    """An element with its children, escaped where they are texts; None is nothing.

    An attribute `class_` is `class`, `stroke_width` is `stroke-width`, and one that is None is left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{written}>" if tag in _VOID else f"<{tag}{written}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Markup:
    """The children one after another, without an element around them."""
    return Markup("".join(map(_markup, children)))


def _markup(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, (str, int)):
        return _escaped(str(child))
    return "".join(map(_markup, child))


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)


def table(
    columns: Iterable[str], rows: Iterable[Iterable[Child]], *, numbers: int, class_: str | None = None
) -> Markup:
    """A table whose last `numbers` columns are numbers; it scrolls sideways where the page is narrow."""
    heads = list(columns)
    kinds = [None] * (len(heads) - numbers) + ["number"] * numbers
    head = element(
        "tr", [element("th", title, scope="col", class_=kind) for title, kind in zip(heads, kinds, strict=True)]
    )
    body = [
        element("tr", [element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)]) for row in rows
    ]
    inner = element("table", element("thead", head), element("tbody", body), class_=class_)
    return element("div", inner, class_="scroll")


def section(title: str, *children: Child, id_: str) -> Markup:
    return element("section", element("h2", title), *children, id=id_)


def folded(title: str, *children: Child) -> Markup:
    """What a reader opens when he wants it; on paper it is open."""
    return element("details", element("summary", title), *children)
