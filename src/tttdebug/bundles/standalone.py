# SPDX-License-Identifier: Apache-2.0
"""The text of a bundle's test: a case as straight-line Python that imports torch and ttnn only."""

from __future__ import annotations

import builtins
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.bundles.case import Case, Seen
from tttdebug.bundles.program import Leaf, Op, Program, values_in
from tttdebug.bundles.ttnn_source import expression, op_expression
from tttdebug.errors import BundleError
from tttdebug.tracking.op_tracking import argument_names

if TYPE_CHECKING:
    import torch

TENSORS = "tensors.safetensors"
GOLDEN, PLACES = "golden", "places"
_NOT_FREE = ("device", "ttnn", "torch", "json", "os", "run", "on_device")
_WIDTH = 112
_LONG = 36  # characters of a setting that gets a line and a name of its own
_HEADINGS = {
    "input": "what goes in",
    "weight": "weights",
    "cache": "caches as they were before",
    "other": "other tensors",
}


@dataclass(frozen=True)
class EmulatedOn:
    """The emulated device that stands in where there is no ttnn."""

    engine: str
    architecture: str
    grid: tuple[int, int]


def test_text(name: str, title: str, case: Case, found: Seen, device: EmulatedOn) -> str:
    """The whole file. `name` is a Python name, `title` one line on what fails."""
    rows, columns = case.golden_TC.shape
    comparison = found.comparison
    return _TEMPLATE.format(
        title=one_line(title),
        engine=repr(str(device.engine)),
        architecture=repr(str(device.architecture)),
        grid=repr(tuple(int(size) for size in device.grid)),
        limit=f"{case.limit:.6g}",
        floor=f" (number formats alone cause {case.floor:.3g})" if case.floor == case.floor else "",
        seen=f"rel_l2 {comparison.rel_l2:.6g}, pcc {comparison.pcc:.6g}, slope {comparison.slope:.6g}",
        program="\n".join(f"    {line}" if line else "" for line in _program(case.program)),
        compared=compared_by(case),
        rows=rows,
        columns=columns,
        tensors=TENSORS,
        name=name,
    )


def compared_by(case: Case) -> str:
    """The expression for what of the output is compared, in the golden's shape."""
    rows, columns = case.golden_TC.shape
    block = block_of(case.places_TC)
    if block is None:
        return f'output.flatten()[TENSORS["{PLACES}"].long()]'
    width, row, column = block
    which = f"{row or ''}:{row + rows}"
    if width != columns:
        which += f", {column or ''}:{column + columns}"
    return f"output.reshape(-1, {width})[{which}]"


def block_of(places_TC: torch.Tensor) -> tuple[int, int, int] | None:
    """Where the golden's values are one block of the output's rows: the rows' width, the first row and column."""
    import torch

    rows, columns = places_TC.shape
    first = int(places_TC[0, 0])
    width = int(places_TC[1, 0]) - first if rows > 1 else columns
    if width < columns:
        return None
    whole_TC = first + torch.arange(rows)[:, None] * width + torch.arange(columns)
    is_one = torch.equal(places_TC, whole_TC) and first % width + columns <= width
    return (width, *divmod(first, width)) if is_one else None


def one_line(text: str) -> str:
    """Foreign text as one line that ends no string and starts no escape."""
    return re.sub(r"[^\w .,:;()\[\]<>=%±→×#@/+\-]", "_", " ".join(text.split()))


def _program(program: Program) -> Iterator[str]:
    """The body of the function: settings, tensors, ops."""
    variables = {number: leaf.name for number, leaf in program.leaves.items()}
    settings = _Settings()
    tensors = list(_tensors(program, settings))
    ops = list(_ops(program, variables, settings))
    if settings.names:
        yield "# settings"
        for text, name in settings.names.items():
            yield from _wrapped(f"{name} = {text}")
        yield ""
    yield from tensors
    yield "# the ops, in the order in which the port called them"
    for line in ops:
        yield from _wrapped(line)
    yield f"return ttnn.to_torch({variables[program.output]})"


def _wrapped(line: str) -> Iterator[str]:
    """A call as it is, or where it is long with a line for each of its arguments."""
    opened, closed = line.find("("), line.rfind(")")
    if len(line) <= _WIDTH or opened < 0 or closed != len(line) - 1:
        yield line
        return
    yield line[: opened + 1]
    depth, begun = 0, opened + 1
    for place in range(opened + 1, closed + 1):
        depth += (line[place] in "([{") - (line[place] in ")]}" and place != closed)
        if place == closed or (line[place] == "," and depth == 0):
            yield f"    {line[begun:place].strip()},"
            begun = place + 1
    yield ")"


def _tensors(program: Program, settings: _Settings) -> Iterator[str]:
    """The leaves, each with a comment that gives its shape."""
    for role, heading in _HEADINGS.items():
        leaves = [leaf for leaf in program.leaves.values() if leaf.role == role]
        if leaves:
            yield f"# {heading}"
            yield from (_placed(leaf, settings) for leaf in leaves)
            yield ""


def _placed(leaf: Leaf, settings: _Settings) -> str:
    where = "None" if leaf.memory_config is None else expression(leaf.memory_config, str)
    if len(where) > _LONG:
        where = settings.named("memory_config", where)
    shape = "×".join(map(str, leaf.values.shape)) or "one value"
    given = f'"{leaf.name}", ttnn.{leaf.dtype}, ttnn.{leaf.layout}_LAYOUT, {where}, device'
    return f"{leaf.name} = on_device({given})  # {shape}"


class _Settings:
    """Long settings, each with a name, in the order in which ops first need them."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._counted: dict[str, int] = {}

    def named(self, argument: str, text: str) -> str:
        if text not in self.names:
            count = self._counted[argument] = self._counted.get(argument, 0) + 1
            self.names[text] = argument if count == 1 else f"{argument}_{count}"
        return self.names[text]


def _ops(program: Program, variables: dict[int, str], settings: _Settings) -> Iterator[str]:
    taken = {*variables.values(), *_NOT_FREE}
    for op in program.ops:
        arguments = []
        names = [*argument_names(op.name), *(f"argument_{place}" for place in range(len(op.args)))]
        for name, value in zip(names, op.args, strict=False):
            arguments.append(_argument(name, value, variables, settings, taken))
        for name, value in op.kwargs.items():
            if value is not None:
                arguments.append(f"{_keyword(name)}={_argument(name, value, variables, settings, taken)}")
        call = f"{op_expression(op.name)}({', '.join(arguments)})"
        yield f"{_targets(op, variables, taken)}{call}"


def _argument(
    name: str, value: object, variables: Mapping[int, str], settings: _Settings, taken: Container[str]
) -> str:
    """An argument as Python: a long one without tensors by a name that is set before."""
    text = expression(value, lambda number: variables[number])
    if len(text) <= _LONG or list(values_in(value)):
        return text
    return settings.named(f"{_keyword(name)}_" if name in taken else name, text)


def _keyword(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise BundleError(f"{name!r} is no name of an argument")
    return name


def _targets(op: Op, variables: dict[int, str], taken: set[str]) -> str:
    """The variables that an op's outputs get, with the sign between; a name stays with its tensor."""
    if all(number is None for number in op.outputs):
        return ""
    own = op.name.rpartition(".")[2].strip("_")
    stems = _CALLED.get(own, (own,))
    names = []
    for place, number in enumerate(op.outputs):
        if number is None:
            names.append("_")
            continue
        if number not in variables:
            stem = stems[place] if len(stems) == len(op.outputs) else own
            stem = f"{stem}_of" if hasattr(builtins, stem) else stem
            free = (name for i in range(len(taken) + 2) if (name := stem if not i else f"{stem}_{i + 1}") not in taken)
            variables[number] = next(free)
            taken.add(variables[number])
        names.append(variables[number])
    return f"{', '.join(names)} = "


_CALLED = {
    "nlp_create_qkv_heads": ("q", "k", "v"),
    "nlp_create_qkv_heads_decode": ("q", "k", "v"),
    "split_query_key_value_and_split_heads": ("q", "k", "v"),
    "rotary_embedding_llama": ("turned",),
    "rotary_embedding_hf": ("turned",),
    "scaled_dot_product_attention": ("attended",),
    "scaled_dot_product_attention_decode": ("attended",),
    "paged_scaled_dot_product_attention_decode": ("attended",),
    "slice": ("part",),
    "to_memory_config": ("moved",),
    "sharded_to_interleaved": ("moved",),
    "interleaved_to_sharded": ("moved",),
    "nlp_concat_heads": ("joined",),
    "nlp_concat_heads_decode": ("joined",),
}
"""Shorter names for what some ops give; of the others the op's own."""


_TEMPLATE = '''"""{title}

Run it with `pytest test_{name}.py`, or as a script. It needs torch and ttnn; ISSUE.md says what it shows.
BUNDLE_ON=emulator runs it on tttdebug's emulation of ttnn even where ttnn is installed.
"""

import importlib.util
import json
import os
from pathlib import Path

import torch

if os.environ.get("BUNDLE_ON") == "emulator" or importlib.util.find_spec("ttnn") is None:  # no ttnn: emulate it
    __import__("tttdebug.emulator").emulator.install(engine={engine}, architecture={architecture}, grid={grid})
import ttnn

LIMIT = {limit}  # the greatest rel_l2 that passes{floor}
# when this file was written: {seen}


def run(device):
    """The port's ops on the bundled tensors."""
{program}


def test_{name}():
    device = ttnn.open_device(device_id=0)
    try:
        output = run(device)
    finally:
        ttnn.close_device(device)
    golden, given = TENSORS["golden"].double(), {compared}.double()  # [{rows}, {columns}]
    error = given - golden
    rel_l2 = float(error.norm() / golden.norm())
    pcc = float(torch.corrcoef(torch.stack([golden.flatten(), given.flatten()]))[0, 1])
    slope = float((golden * given).sum() / golden.square().sum())
    finite = bool(given.isfinite().all()) or not golden.isfinite().all()
    said = f"rel_l2 {{rel_l2:.6g}} (limit {{LIMIT:.6g}}), pcc {{pcc:.6g}}, slope {{slope:.6g}}"
    print(said)
    assert finite and rel_l2 <= LIMIT, said + f", greatest error {{float(error.abs().max()):.4g}}"


def on_device(name, dtype, layout, memory_config, device):
    where = {{}} if memory_config is None else {{"device": device, "memory_config": memory_config}}
    return ttnn.from_torch(TENSORS[name], dtype=dtype, layout=layout, **where)


def read_safetensors(path):
    """Name → tensor of a .safetensors file: the length of a JSON header, the header, the bytes."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    dtypes = {{"BF16": torch.bfloat16, "F32": torch.float32, "I32": torch.int32, "U8": torch.uint8, "I64": torch.int64}}
    tensors = {{}}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        raw = bytearray(content[start + first : start + last])
        tensors[name] = torch.frombuffer(raw, dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors


TENSORS = read_safetensors(Path(__file__).with_name("{tensors}"))

if __name__ == "__main__":
    test_{name}()
'''
