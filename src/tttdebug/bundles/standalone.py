# SPDX-License-Identifier: Apache-2.0
"""The text of a bundle's test: a case as straight-line Python that imports torch and ttnn only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.bundles.case import Case, Seen
from tttdebug.bundles.program import Leaf, Op, Program, values_in
from tttdebug.bundles.ttnn_source import expression, op_expression

if TYPE_CHECKING:
    import torch

TENSORS = "tensors.safetensors"
GOLDEN, PLACES = "golden", "places"
_LONG = 36  # characters of a setting that gets a line and a name of its own
_HEADINGS = {"input": "what goes in", "weight": "weights", "cache": "caches as they were before", "other": "other tensors"}


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
    if is_first_rows(case.places_TC, columns):
        return f"output.reshape(-1, {columns})[:{rows}]"
    return f'output.flatten()[TENSORS["{PLACES}"].long()]'


def is_first_rows(places_TC: torch.Tensor, columns: int) -> bool:
    """Whether the golden's values are the first ones of the output, in their order."""
    import torch

    return torch.equal(places_TC.flatten(), torch.arange(places_TC.numel())) and places_TC.shape[1] == columns


def one_line(text: str) -> str:
    """Foreign text as one line that ends no string and starts no escape."""
    return re.sub(r"[^\w .,:;()\[\]<>=%±→×#@/+\-]", "_", " ".join(text.split()))


def _program(program: Program) -> Iterator[str]:
    """The body of the function: tensors, settings, ops."""
    variables = {number: leaf.name for number, leaf in program.leaves.items()}
    settings = _Settings()
    for role, heading in _HEADINGS.items():
        leaves = [leaf for leaf in program.leaves.values() if leaf.role == role]
        if leaves:
            yield f"# {heading}"
            yield from (_placed(leaf) for leaf in leaves)
            yield ""
    ops = list(_ops(program, variables, settings))
    if settings.names:
        yield "# settings"
        yield from (f"{name} = {text}" for text, name in settings.names.items())
        yield ""
    yield "# the ops, in the order in which the port called them"
    yield from ops
    yield f"return ttnn.to_torch({variables[program.output]})"


def _placed(leaf: Leaf) -> str:
    where = "None" if leaf.memory_config is None else expression(leaf.memory_config, str)
    shape = "×".join(map(str, leaf.values.shape)) or "one value"
    return f'{leaf.name} = on_device("{leaf.name}", ttnn.{leaf.dtype}, ttnn.{leaf.layout}_LAYOUT, {where}, device)  # {shape}'


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
    taken = set(variables.values())
    for op in program.ops:
        arguments = [_argument(value, variables) for value in op.args]
        for name, value in op.kwargs.items():
            if value is None:
                continue
            text = _argument(value, variables)
            if len(text) > _LONG and not list(values_in(value)):
                text = settings.named(_free(name, taken), text)
            arguments.append(f"{_keyword(name)}={text}")
        call = f"{op_expression(op.name)}({', '.join(arguments)})"
        yield f"{_targets(op, variables, taken)}{call}"


def _argument(value: object, variables: Mapping[int, str]) -> str:
    return expression(value, lambda number: variables[number])


def _keyword(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"{name!r} is no name of an argument")
    return name


def _free(name: str, taken: set[str]) -> str:
    return f"{_keyword(name)}_" if name in taken else _keyword(name)


def _targets(op: Op, variables: dict[int, str], taken: set[str]) -> str:
    """The variables that an op's outputs get, with the sign between; a name stays with its tensor."""
    if all(number is None for number in op.outputs):
        return ""
    stem, names = op.name.rpartition(".")[2].strip("_"), []
    for number in op.outputs:
        if number is None:
            names.append("_")
            continue
        if number not in variables:
            count = next(i for i in range(1, len(taken) + 2) if f"{stem}_{i}" not in taken)
            variables[number] = f"{stem}_{count}"
            taken.add(variables[number])
        names.append(variables[number])
    return f"{', '.join(names)} = "


_TEMPLATE = '''"""{title}

Run it with `pytest {name}.py`, or `python {name}.py`. It needs torch and ttnn; ISSUE.md says what it shows.
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
