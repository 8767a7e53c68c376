# SPDX-License-Identifier: Apache-2.0
"""Every name and keyword of ttnn that our source uses is there in the wheel, and our lists of them are the wheel's."""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/tttdebug").rglob("*.py"))
NAMESPACES = ("ttnn", "_ttnn")  # `ttnn.add`, `self.ttnn.add`, `self._ttnn.add`
NOT_NAMES = {"__name__", "_ttnn"}
REFUSED_WITH_A_HINT = [("matmul", "bias")]  # the emulator says there that ttnn.linear takes one


@dataclass(frozen=True)
class Use:
    """A name of ttnn in our source: dotted, with the keywords of the call where it is called."""

    where: str
    name: str
    keywords: tuple[str, ...]


def chain(node: ast.expr) -> str | None:
    """`self.ttnn.transformer.split` as "transformer.split"; None for what does not start at the namespace."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr in NAMESPACES:
            return ".".join(reversed(names))
        names.append(node.attr)
        node = node.value
    return ".".join(reversed(names)) if isinstance(node, ast.Name) and node.id in NAMESPACES else None


def uses(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text())
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inside:
            continue
        name = chain(node)
        if name and not NOT_NAMES & set(name.split(".")):
            call = called.get(id(node))
            keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg) if call else ()
            yield Use(f"{path.relative_to(ROOT)}:{node.lineno}", name, keywords)


def in_package(name: str) -> list[Use]:
    folder = ROOT / "src/tttdebug" / name
    return [use for path in SOURCES if folder in path.parents for use in uses(path)]


def look_up(ttnn: Any, dotted: str) -> Any:
    value = ttnn
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


@cache
def keywords_of(dotted: str) -> frozenset[str] | None:
    """The keywords that any overload of an op, function or class takes; None where the wheel does not say."""
    import make_signatures
    import ttnn

    value = look_up(ttnn, dotted)
    subject = value.__init__ if isinstance(value, type) else value
    try:
        written = make_signatures.overloads(subject)
    except (ValueError, TypeError, AttributeError):
        return None
    names = {name for overload in written for name in parameter_names(overload)}
    return None if not names or "kwargs" in names or "**kwargs" in names else frozenset(names)


def parameter_names(overload: str) -> list[str]:
    """The names in "input_tensor, dim=None, *, memory_config=None"; commas inside brackets part nothing."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(overload):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(overload[start:i])
            start = i + 1
    parts.append(overload[start:])
    return [part.partition("=")[0].strip() for part in parts if part.strip() not in ("", "*", "/")]


@pytest.mark.parametrize("package", ["modules", "backends", "families", "tracking"])
def test_every_name_is_in_the_wheel(ttnn, package):
    found = in_package(package)
    if package in ("modules", "backends"):
        assert len(found) >= {"modules": 80, "backends": 8}[package]  # else nothing was walked
    missing = []
    for use in found:
        try:
            look_up(ttnn, use.name)
        except AttributeError:
            missing.append(use)
    assert not missing


def test_every_keyword_of_a_port_is_taken_by_the_wheel(ttnn):
    refused, checked = [], 0
    for use in (*in_package("modules"), *in_package("backends")):
        known = keywords_of(use.name) if use.keywords else None
        if known is None:
            continue
        checked += 1
        refused += [(use.where, use.name, keyword) for keyword in use.keywords if keyword not in known]
    assert checked >= 30  # calls with keywords whose signature the wheel tells
    assert not refused


def test_every_emulated_op_and_its_keywords_are_in_the_wheel(ttnn, cases):
    ops = json.loads((cases / "ops.json").read_text())
    assert len(ops) >= 200
    absent, refused = [], []
    for name, parameters in ops.items():
        try:
            look_up(ttnn, name)
        except AttributeError:
            absent.append(name)
            continue
        known = keywords_of(name)
        refused += [(name, parameter) for parameter in parameters if known is not None and parameter not in known]
    assert not absent
    assert refused == REFUSED_WITH_A_HINT


def by_kind(names: dict[str, str]) -> dict[str, set[str]]:
    """Without the parts that the wheel has only where torch is installed, too."""
    return {
        kind: {name for name in listed.split() if not name.startswith(("tracer.", "torch_tracer."))}
        for kind, listed in names.items()
    }


def test_the_emulators_list_of_names_is_the_wheels():
    import make_signatures

    written = json.loads((ROOT / "src/tttdebug/emulator/real_names.json").read_text())
    found = make_signatures.names_by_kind()
    assert by_kind(written) == by_kind(found)


def test_the_signatures_that_the_emulator_is_held_to_are_the_wheels():
    import make_signatures

    written = json.loads((ROOT / "tests/emulator/data/signatures.json").read_text())
    found = make_signatures.signatures()
    assert len(found["ops"]) >= 700
    different = [name for name in written["ops"] | found["ops"] if written["ops"].get(name) != found["ops"].get(name)]
    assert not different
    assert written["ttnn"] == found["ttnn"]
