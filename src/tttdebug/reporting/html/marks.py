# SPDX-License-Identifier: Apache-2.0
"""A verdict drawn: its shape in its colour, the same in every chart and table."""

from __future__ import annotations

from tttdebug.reporting.html.markup import Markup, element
from tttdebug.reporting.palette import VERDICTS, looks_like, style_of

_PATHS = {
    "circle": "M-.9,0A.9,.9 0 1 0 .9,0A.9,.9 0 1 0 -.9,0Z",
    "diamond": "M0,-1.15L1.15,0L0,1.15L-1.15,0Z",
    "square": "M-.85,-.85H.85V.85H-.85Z",
    "triangle-right": "M-.8,-1L1.1,0L-.8,1Z",
    "triangle-up": "M0,-1.1L1,.8H-1Z",
    "triangle-down": "M0,1.1L1,-.8H-1Z",
    "cross": "M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    "stroke": "M-1,-.3H1V.3H-1Z",
}


def definitions() -> Markup:
    """The shapes, to stand once in a page before their first use."""
    shapes = [
        element("path", id=f"mark-{verdict}", d=_PATHS.get(style.shape, style.shape))
        for verdict, style in VERDICTS.items()
    ]
    return element("svg", element("defs", shapes), width=0, height=0, aria_hidden="true", class_="definitions")


def colour_rules() -> str:
    """The style sheet's colour of each verdict, as `--verdict` of its class."""
    return "\n".join(f".{verdict} {{ --verdict: {style.colour} }}" for verdict, style in VERDICTS.items())


def mark(verdict: str, x: float, y: float, radius: float = 4) -> Markup:
    """The verdict's shape inside a chart."""
    looks = looks_like(verdict)
    place = f"translate({x:.1f} {y:.1f}) scale({radius:g})"
    return element("use", href=f"#mark-{looks}", class_=f"mark {looks}", transform=place)


def label(verdict: str) -> Markup:
    """The verdict's symbol and name, inside a table or a sentence."""
    return element(
        "span", element("i", style_of(verdict).symbol), f" {verdict}", class_=f"verdict {looks_like(verdict)}"
    )


def legend(verdicts: set[str]) -> Markup:
    """What the shapes that occur mean."""
    shown = [verdict for verdict in VERDICTS if verdict in {looks_like(one) for one in verdicts}]
    return element(
        "p", [element("span", label(verdict), f": {VERDICTS[verdict].meaning}") for verdict in shown], class_="legend"
    )
