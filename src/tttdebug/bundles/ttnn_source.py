# SPDX-License-Identifier: Apache-2.0
"""ttnn's values as the Python that makes them again: dtypes, memory configs, kernel and program configs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import torch

from tttdebug.bundles.program import DEVICE, Value
from tttdebug.errors import BundleError

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OP = re.compile(r"ttnn(\.[A-Za-z_]\w*)+", re.ASCII)


def expression(value: Any, variable: Callable[[int], str]) -> str:
    """The Python that makes an argument of an op again; `variable` names the tensors.

    Only values are written, never text that a value gives of itself. Raises BundleError for what it does not know.
    """

    def inner(part: Any) -> str:
        return expression(part, variable)

    if value is DEVICE:
        return "device"
    if isinstance(value, Value):
        return variable(value.number)
    if value is None or type(value) in (bool, int, str):
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if type(value) is tuple:
        return f"({', '.join(map(inner, value))}{',' if len(value) == 1 else ''})"
    if type(value) is list:
        return f"[{', '.join(map(inner, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{inner(name)}: {inner(item)}' for name, item in value.items())}}}"
    return _of_ttnn(value, inner)


def op_expression(name: str) -> str:
    """The name of an op. Raises BundleError for one that is no path of names within ttnn."""
    if not _OP.fullmatch(name):
        raise BundleError(f"{name!r} is no name of an op of ttnn's")
    return name


def _of_ttnn(value: Any, inner: Callable[[Any], str]) -> str:
    kind = type(value).__name__
    if isinstance(value, torch.dtype):
        return str(value)
    if not type(value).__module__.startswith(("ttnn", "tttdebug.emulator")) or not _NAME.fullmatch(kind):
        raise _unknown(value)
    if kind == "Shape":
        return inner([int(size) for size in value])
    if kind in ("DataType", "Layout"):
        return dtype_or_layout(value)
    if kind == "CoreCoord":
        return f"ttnn.CoreCoord({int(value.x)}, {int(value.y)})"
    if kind == "CoreRange":
        return f"ttnn.CoreRange({inner(value.start)}, {inner(value.end)})"
    if kind == "CoreRangeSet":
        return f"ttnn.CoreRangeSet({{{', '.join(map(inner, value.ranges()))}}})"
    if kind == "ShardSpec":
        shape = [int(size) for size in value.shape]
        return f"ttnn.ShardSpec({inner(value.grid)}, {shape}, {inner(value.orientation)})"
    if kind == "MemoryConfig":
        return _memory_config(value, inner)
    if kind == "UnaryWithParam":
        parameters = getattr(value, "parameters", None) or getattr(value, "params", None) or ()
        return f"ttnn.UnaryWithParam({', '.join(map(inner, (value.op_type, *parameters)))})"
    member = getattr(value, "name", None)
    if isinstance(member, str) and _NAME.fullmatch(member):  # of an enumeration
        return f"ttnn.{kind}.{member}"
    return _constructed(kind, value, inner)


def dtype_or_layout(value: Any) -> str:
    """As in `ttnn.bfloat8_b` and `ttnn.TILE_LAYOUT`."""
    name = str(getattr(value, "name", value)).rpartition(".")[2]
    return f"ttnn.{name}_LAYOUT" if type(value).__name__ == "Layout" else f"ttnn.{name.lower()}"


def _memory_config(config: Any, inner: Callable[[Any], str]) -> str:
    layout, buffer = (inner(part) for part in (config.memory_layout, config.buffer_type))
    spec = getattr(config, "shard_spec", None)
    if spec is not None:
        return f"ttnn.MemoryConfig({layout}, {buffer}, {inner(spec)})"
    where, how = buffer.rpartition(".")[2], layout.rpartition(".")[2]
    if how == "INTERLEAVED" and where in ("DRAM", "L1"):
        return f"ttnn.{where}_MEMORY_CONFIG"
    return f"ttnn.MemoryConfig({layout}, {buffer})"


def _constructed(kind: str, value: Any, inner: Callable[[Any], str]) -> str:
    """A config, by the fields of the emulator's class of that name, which are those of the real one's constructor."""
    from tttdebug.emulator import ttnn

    own = vars(ttnn).get(kind)
    if own is None or not isinstance(own, type) or not is_dataclass(own):
        raise _unknown(value)
    given = {part.name: getattr(value, part.name) for part in fields(own) if part.init and hasattr(value, part.name)}
    said = [part.name for part in fields(own) if part.name in given and _is_said(part, given[part.name])]
    return f"ttnn.{kind}({', '.join(f'{name}={inner(given[name])}' for name in said)})"


def _unknown(value: Any) -> BundleError:
    return BundleError(
        f"an op was given a {type(value).__module__}.{type(value).__name__}, which cannot be written as Python; bundle "
        "another module, or report it"
    )


_ALWAYS_SAID = ("math_fidelity", "math_approx_mode", "fp32_dest_acc_en", "packer_l1_acc")


def _is_said(part: Field[Any], value: Any) -> bool:
    """What decides numbers is always written; the rest where it is not the constructor's default."""
    return part.name in _ALWAYS_SAID or part.default is MISSING or value != part.default
