# SPDX-License-Identifier: Apache-2.0
"""Running a program on a device, with a look at each op where one is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tttdebug.backends import namespace_of, to_torch
from tttdebug.bundles.program import DEVICE, Leaf, Op, Program, Value, mapped
from tttdebug.errors import BundleError

if TYPE_CHECKING:
    import torch

Call = Callable[..., Any]
Around = Callable[[int, Op, Call, tuple[Any, ...], dict[str, Any]], Any]
"""Makes the call of the op at a place in the program: it gets the function and the arguments, and gives the output."""


def replay(program: Program, device: Any, around: Around | None = None) -> torch.Tensor:
    """The output of a program in its logical shape. Raises what the device raises for a program that it cannot run."""
    ttnn = namespace_of(device)
    held: dict[int, Any] = {number: placed(leaf, ttnn, device) for number, leaf in program.leaves.items()}

    def tensor(part: Any) -> Any:
        if part is DEVICE:
            return device
        return held[part.number] if isinstance(part, Value) else part

    for place, op in enumerate(program.ops):
        function = op_named(ttnn, op.name)
        args, kwargs = mapped(op.args, tensor), mapped(dict(op.kwargs), tensor)
        output = function(*args, **kwargs) if around is None else around(place, op, function, args, kwargs)
        for number, part in zip(op.outputs, output if op.several else [output], strict=True):
            if number is not None:
                held[number] = part
    return to_torch(held[program.output])


def placed(leaf: Leaf, ttnn: Any, device: Any) -> Any:
    """A leaf as it was on the device, or on the host."""
    where = {} if leaf.memory_config is None else {"device": device, "memory_config": leaf.memory_config}
    layout = getattr(ttnn, f"{leaf.layout}_LAYOUT")
    return ttnn.from_torch(leaf.values, dtype=getattr(ttnn, leaf.dtype), layout=layout, **where)


def op_named(ttnn: Any, name: str) -> Call:
    """The op of that name, e.g. `ttnn.experimental.nlp_concat_heads`. Raises BundleError where there is none."""
    found: Any = ttnn
    first, *steps = name.split(".")
    for step in steps:
        found = getattr(found, step, None)
    if first != "ttnn" or not callable(found):
        raise BundleError(
            f"the call made an op {name}, which ttnn does not offer under that name; it cannot be bundled"
        )
    function: Call = found
    return function
