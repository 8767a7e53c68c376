# SPDX-License-Identifier: Apache-2.0
"""Reads the names and signatures off an installed ttnn.

Run with a Python that has ttnn 0.81.1 (torch is not needed): python tests/emulator/data/make_signatures.py
It writes src/tttdebug/emulator/real_names.json, which the emulator ships, and signatures.json beside this file.
An op has a list of overloads, each written as in Python: "input_tensor, dim=None, *, memory_config=None"; a default is
written as Python writes it, and "…" where that would be the address of an object.
"""

import ast
import inspect
import json
import re
import types
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import ttnn

HERE = Path(__file__).parent
NAMES = HERE.parents[2] / "src/tttdebug/emulator/real_names.json"
OPERATION = type(ttnn.add)
OWN = re.compile(r"(ttnn|builtins|nanobind|enum|dataclasses|abc)\b")


def members(module: types.ModuleType, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every public name of the namespace and of its own parts, dotted, with what it stands for."""
    for name in sorted(vars(module).keys() | set(dir(module))):
        value = getattr(module, name)
        if name.startswith("_") or name == "ttnn":
            continue
        if isinstance(value, types.ModuleType):
            if not prefix and value.__name__.startswith("ttnn"):
                yield from members(value, f"{name}.")
        else:
            yield prefix + name, value


def kind(value: object) -> str | None:
    """What a name stands for; None for what a module merely imported."""
    if isinstance(value, OPERATION):
        return "operation"
    if not OWN.match(getattr(value, "__module__", None) or "ttnn"):
        return None
    if inspect.isclass(value):
        return "class"
    return "function" if callable(value) else "value"


def overloads(value: object) -> list[str]:
    function = getattr(value, "function", value)
    written = getattr(function, "__nb_signature__", None) or getattr(type(function).__call__, "__nb_signature__", None)
    if written is None:
        return [_arguments(inspect.signature(function))]
    texts = [_filled(*entry) for entry in written if "ComplexTensor" not in entry[0]]
    return list(dict.fromkeys(texts))


def _filled(text: str, _doc: str | None = None, defaults: tuple[object, ...] = ()) -> str:
    """nanobind's text of a signature, whose defaults stand as \\0, \\1, …, without annotations."""
    text = re.sub(r"\\(\d+)", r"'«\1»'", text.replace("\\*", "*"))
    text = re.sub(r"\((self, |self)", "(", text)
    try:
        arguments = ast.parse(f"{text}: ...").body[0].args
    except SyntaxError:  # a parameter without default behind one that has it, which Python cannot say
        plain = _without_annotations(text)
    else:
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            argument.annotation = None
        plain = ast.unparse(arguments)
    return re.sub(r"'«(\d+)»'", lambda number: _shown(defaults[int(number[1])]), plain)


def _without_annotations(text: str) -> str:
    inside = text[text.index("(") + 1 : text.rindex(") ->")]
    flat = re.sub(r"\[[^\[\]]*(\[[^\[\]]*\])*[^\[\]]*\]", "", inside)
    parts = (re.sub(r":[^=]*?(?= = |$)", "", part.strip()) for part in flat.split(", "))
    return ", ".join(part.replace(" = ", "=") for part in parts)


def _shown(value: object) -> str:
    text = repr(value)
    if isinstance(value, ttnn.MemoryConfig):
        return "DRAM_MEMORY_CONFIG" if value == ttnn.DRAM_MEMORY_CONFIG else "…"
    return "…" if " object at 0x" in text or "\n" in text or "shape:" in text else text.replace("'", '"')


def _arguments(signature: inspect.Signature) -> str:
    shown, keywords = [], False
    for name, p in signature.parameters.items():
        if name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and not keywords:
            shown, keywords = [*shown, "*"], True
        shown.append(name if p.default is p.empty else f"{name}={_shown(p.default)}")
    return ", ".join(shown)


def public_names() -> dict[str, object]:
    """Every public name of the installed ttnn with what it stands for."""
    imported = {"ispkg", "name", "operations.is_pkg", "operations.module_name"}  # left over from loops
    return {name: value for name, value in members(ttnn) if kind(value) and name not in imported}


def names_by_kind() -> dict[str, str]:
    """What real_names.json holds."""
    found = public_names()
    kinds = {
        wanted: " ".join(name for name, value in found.items() if kind(value) == wanted)
        for wanted in ("operation", "function", "class", "value")
    }
    return {"ttnn": version("ttnn"), **kinds}


def signatures() -> dict[str, object]:
    """What signatures.json holds."""
    ops = {}
    for name, value in public_names().items():
        if kind(value) == "operation" or (kind(value) == "function" and "." not in name):
            try:
                ops[name] = overloads(value)
            except (ValueError, TypeError, AttributeError):  # a builtin that says nothing of its arguments
                continue
    return {"ttnn": version("ttnn"), "ops": ops}


if __name__ == "__main__":
    NAMES.write_text(json.dumps(names_by_kind(), indent=1) + "\n")
    (HERE / "signatures.json").write_text(json.dumps(signatures(), indent=0) + "\n")
