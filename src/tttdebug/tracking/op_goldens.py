# SPDX-License-Identifier: Apache-2.0
"""What ttnn's ops should compute, in plain torch: products, norms, elementwise functions, moves.

Each golden takes an op's arguments under ttnn's names, with torch tensors in the place of ttnn's (fp32, or int64), and
gives its output or a tuple of outputs. What only says how the op runs lands in `_` and changes nothing.
`op_golden_of` has them by the names of their ops, with those of heads, caches and collectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Golden: TypeAlias = Callable[..., Any]


class NoGoldenError(Exception):
    """A golden exists for the op, but not for what this call asked of it."""


UNARY: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in ("abs", "erf", "exp2", "expm1", "log", "log1p", "neg", "reciprocal")},
    **{name: getattr(torch, name) for name in ("relu", "sigmoid", "sqrt", "square", "tanh", "exp", "rsqrt")},
    **{name: getattr(torch, name) for name in ("acos", "asin", "atan", "cos", "sin", "tan", "cosh", "sinh", "erfc")},
    **{name: getattr(torch, name) for name in ("floor", "ceil", "trunc", "frac", "sign", "log2", "log10")},
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu6": functional.relu6,
    "mish": functional.mish,
    "softsign": functional.softsign,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "identity": lambda x: x,
}
_APPROXIMABLE = ("exp", "gelu", "rsqrt", "sigmoid")  # their parameter asks for a quicker form of the same
_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": torch.add,
    "subtract": torch.subtract,
    "sub": torch.subtract,
    "multiply": torch.mul,
    "mul": torch.mul,
    "divide": torch.div,
    "div": torch.div,
    "rsub": lambda a, b: b - a,
    "maximum": lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)),
    "minimum": lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)),
    "squared_difference": lambda a, b: (a - b) ** 2,
    "pow": torch.pow,
}

ELEMENTWISE = frozenset(f"ttnn.{name}" for name in (*_BINARY, *UNARY))


def activated(x: Tensor, functions: Any) -> Tensor:
    """x behind one fused function or several, each a string, a UnaryOpType or a UnaryWithParam."""
    for function in functions if isinstance(functions, (list, tuple)) else [functions]:
        if function is None:
            continue
        parameters = list(getattr(function, "parameters", None) or getattr(function, "params", None) or ())
        kind = getattr(function, "op_type", function)
        name = (kind if isinstance(kind, str) else str(getattr(kind, "name", kind)).rpartition(".")[2]).lower()
        if name not in UNARY or (parameters and name not in _APPROXIMABLE):
            raise NoGoldenError(f"the fused function {function} has no golden")
        x = UNARY[name](x)
    return x


def matmul(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    *,
    bias: Tensor | None = None,
    activation: Any = None,
    **_: Any,
) -> Tensor:
    a = input_tensor_a.mT if transpose_a else input_tensor_a
    b = input_tensor_b.mT if transpose_b else input_tensor_b
    out = a @ b
    if bias is not None:
        out = out + (bias[..., :1, :] if bias.ndim > 1 else bias)
    return activated(out, activation)


def minimal_matmul(
    input_tensor: Tensor,
    weight_tensor: Tensor,
    *,
    bias_tensor: Tensor | None = None,
    fused_activation: Any = None,
    fuse_swiglu: bool = False,
    **_: Any,
) -> Tensor:
    if fuse_swiglu:
        raise NoGoldenError("minimal_matmul with fuse_swiglu")
    return matmul(input_tensor, weight_tensor, bias=bias_tensor, activation=fused_activation)


def rms_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    return _scaled(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon), weight, bias)


def layer_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    return _scaled(functional.layer_norm(x, x.shape[-1:], eps=epsilon), weight, bias)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Gains may lie as rows of tiles, [1, 1, D / 32, 32]: in memory they are one row all the same."""
    width = x.shape[-1]
    if weight is not None:
        x = x * weight.flatten()[:width]
    return x if bias is None else x + bias.flatten()[:width]


def _binary(function: Callable[[Any, Any], Tensor]) -> Golden:
    def golden(
        input_tensor_a: Any,
        input_tensor_b: Any,
        *,
        activations: Any = (),
        input_tensor_a_activations: Any = (),
        input_tensor_b_activations: Any = (),
        **_: Any,
    ) -> Tensor:
        a = activated(input_tensor_a, input_tensor_a_activations or ())
        b = activated(input_tensor_b, input_tensor_b_activations or ())
        return activated(function(a, b), activations or ())

    return golden


def _unary(function: Callable[[Tensor], Tensor]) -> Golden:
    def golden(input_tensor: Tensor, **_: Any) -> Tensor:
        return function(input_tensor)

    return golden


def embedding(input_tensor: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return functional.embedding(input_tensor.long(), weight.reshape(-1, weight.shape[-1]))


def softmax(input_tensor: Tensor, dim: int = -1, **_: Any) -> Tensor:
    return torch.softmax(input_tensor, dim)


def _same(name: str) -> Golden:
    """The values as they are: a move, a change of layout or of number format."""

    def golden(*args: Any, **kwargs: Any) -> Tensor:
        value = args[0] if args else kwargs.get("input_tensor", kwargs.get("tensor", kwargs.get("input")))
        if not isinstance(value, Tensor):
            raise NoGoldenError(f"{name} without a tensor")
        return value

    return golden


def concat(tensors: Sequence[Tensor], dim: int = 0, *, groups: int = 1, **_: Any) -> Tensor:
    if groups != 1:
        raise NoGoldenError(f"concat in {groups} groups")
    return torch.cat(list(tensors), dim)


def slice_(
    input_tensor: Tensor, slice_start: Any = None, slice_end: Any = None, slice_step: Any = None, **further: Any
) -> Tensor:
    starts = slice_start if slice_start is not None else further.get("starts")
    ends = slice_end if slice_end is not None else further.get("ends")
    if starts is None or ends is None:
        raise NoGoldenError("slice without its start or end")
    starts, ends = list(starts), list(ends)
    steps = list(slice_step if slice_step is not None else further.get("steps") or [1] * len(starts))
    return input_tensor[tuple(slice(int(a), int(b), int(c)) for a, b, c in zip(starts, ends, steps, strict=True))]


def reshape(input_tensor: Tensor, shape: Any, *_args: Any, **_: Any) -> Tensor:
    return input_tensor.reshape([int(size) for size in shape])


def permute(input_tensor: Tensor, dims: Sequence[int], **_: Any) -> Tensor:
    return input_tensor.permute(*dims)


def transpose(input_tensor: Tensor, dim1: int, dim2: int, **_: Any) -> Tensor:
    return input_tensor.transpose(dim1, dim2)


def unsqueeze_to_4d(tensor: Tensor, **_: Any) -> Tensor:
    return tensor.reshape([1] * (4 - tensor.ndim) + list(tensor.shape))


def unsqueeze(input_tensor: Tensor, dim: int, **_: Any) -> Tensor:
    return input_tensor.unsqueeze(dim)


def squeeze(input_tensor: Tensor, dim: Any = None, **_: Any) -> Tensor:
    if dim is None:
        return input_tensor.squeeze()
    return input_tensor.squeeze(dim if isinstance(dim, int) else tuple(dim))


def repeat(input_tensor: Tensor, repeat_dims: Any, **_: Any) -> Tensor:
    return input_tensor.repeat(*(int(size) for size in repeat_dims))


def pad(input_tensor: Tensor, padding: Sequence[Sequence[int]], value: float = 0.0, **_: Any) -> Tensor:
    if not padding or isinstance(padding[0], int):
        raise NoGoldenError("pad to a shape instead of by widths")
    return functional.pad(input_tensor, [int(n) for pair in reversed(padding) for n in pair], value=value)


def _reduction(function: Callable[..., Tensor]) -> Golden:
    def golden(
        input_tensor: Tensor, dim: Any = None, keepdim: bool = False, *, scalar: float = 1.0, **_: Any
    ) -> Tensor:
        dims = list(range(input_tensor.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
        return function(input_tensor, dim=dims, keepdim=keepdim) * scalar

    return golden


def argmax(input_tensor: Tensor, dim: int | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    return torch.argmax(input_tensor, dim, keepdim)


def _filled(value: float) -> Golden:
    def golden(shape: Any, **_: Any) -> Tensor:
        return torch.full([int(size) for size in shape], value)

    return golden


def full(shape: Any, fill_value: float, **_: Any) -> Tensor:
    return torch.full([int(size) for size in shape], float(fill_value))


GOLDENS: dict[str, Golden] = {
    "ttnn.zeros": _filled(0.0),
    "ttnn.ones": _filled(1.0),
    "ttnn.full": full,
    "ttnn.matmul": matmul,
    "ttnn.linear": matmul,
    "ttnn.experimental.minimal_matmul": minimal_matmul,
    "ttnn.rms_norm": rms_norm,
    "ttnn.layer_norm": layer_norm,
    "ttnn.embedding": embedding,
    "ttnn.softmax": softmax,
    "ttnn.concat": concat,
    "ttnn.slice": slice_,
    "ttnn.reshape": reshape,
    "ttnn.view": reshape,
    "ttnn.permute": permute,
    "ttnn.transpose": transpose,
    "ttnn.unsqueeze_to_4D": unsqueeze_to_4d,
    "ttnn.unsqueeze": unsqueeze,
    "ttnn.squeeze": squeeze,
    "ttnn.repeat": repeat,
    "ttnn.pad": pad,
    "ttnn.sum": _reduction(torch.sum),
    "ttnn.mean": _reduction(torch.mean),
    "ttnn.max": _reduction(torch.amax),
    "ttnn.min": _reduction(torch.amin),
    "ttnn.argmax": argmax,
    **{f"ttnn.{name}": _binary(function) for name, function in _BINARY.items()},
    **{f"ttnn.{name}_": _binary(function) for name, function in _BINARY.items()},
    **{f"ttnn.{name}": _unary(function) for name, function in UNARY.items()},
    **{
        f"ttnn.{name}": _same(name)
        for name in (
            *("typecast", "experimental.typecast", "to_memory_config", "to_layout", "to_dtype", "to_device", "clone"),
            *("interleaved_to_sharded", "sharded_to_interleaved", "reshard", "move", "reallocate", "from_device"),
            *("tilize", "untilize", "from_torch", "as_tensor", "to_torch"),
        )
    },
}
