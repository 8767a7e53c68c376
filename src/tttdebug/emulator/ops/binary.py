# SPDX-License-Identifier: Apache-2.0
"""Comparisons, logical and bitwise ops, extrema and the rarer arithmetic of two operands, and the in-place forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import OPS, operation, renamed, require_float, result
from tttdebug.emulator.ops.eltwise import FusedFunction, apply_binary, divide, multiply, subtract
from tttdebug.emulator.tensor import Tensor

_PLACES = "sub_core_grids sub_device_id"

# ttnn's op to the function behind it, and which data types it takes.
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")
_FLOATS = ("ldexp", "logaddexp", "logaddexp2", "xlogy")
_BOTH = ("squared_difference", "remainder")
_WITHOUT_PLACES = ("maximum", "minimum")
_INTEGERS = ("gcd", "lcm")
_BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")
_SCALAR = {"input_b": "input_tensor_b"}  # what the overload that takes a number calls it
_IN_PLACE_PLAIN = (*_COMPARISONS, "ldexp", "logaddexp", "logaddexp2", "squared_difference")


def _binary(
    name: str, *, floats_only: bool = False, places: bool = True, also: dict[str, str] | None = None
) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts=f"memory_config output_tensor {_PLACES if places else ''}", also=also)
    def binary(
        input_tensor_a: Tensor,
        input_tensor_b: Tensor | float,
        *,
        dtype: DataType | None = None,
        activations: Sequence[FusedFunction] = (),
        input_tensor_a_activations: Sequence[FusedFunction] = (),
        input_tensor_b_activations: Sequence[FusedFunction] = (),
    ) -> Tensor:
        if floats_only:
            require_float(op, input_tensor_a=input_tensor_a)
        return apply_binary(
            op,
            name,
            input_tensor_a,
            input_tensor_b,
            dtype=dtype,
            after=activations,
            on_a=input_tensor_a_activations,
            on_b=input_tensor_b_activations,
        )

    binary.__name__ = binary.__qualname__ = name
    binary.__doc__ = f"{name}, elementwise with broadcasting; the output has the first operand's data type."
    return binary


def _bitwise(name: str) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"
    places = ("activations", "input_tensor_a_activations", "input_tensor_b_activations")
    activations: dict[str, object] = {place: [] for place in places}

    @operation(op, accepts=f"memory_config output_tensor {_PLACES}", only=activations, also=_SCALAR)
    def bitwise(input_tensor_a: Tensor, input_tensor_b: Tensor | int) -> Tensor:
        return apply_binary(op, name, input_tensor_a, input_tensor_b)

    bitwise.__name__ = bitwise.__qualname__ = name
    bitwise.__doc__ = f"{name} of integers."
    return bitwise


def _bare(name: str, further: str = "", also: dict[str, str] | None = None) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts=f"memory_config {further}", also=also)
    def bare(input_tensor_a: Tensor, input_tensor_b: Tensor | float) -> Tensor:
        return apply_binary(op, name, input_tensor_a, input_tensor_b)

    bare.__name__ = bare.__qualname__ = name
    bare.__doc__ = f"{name}, elementwise with broadcasting."
    return bare


def _in_place(name: str, function: str, first: str, second: str, *, modes: bool) -> Callable[..., Tensor]:
    """The form that writes its output into the first operand; its operands are named as ttnn names them."""
    op = f"ttnn.{name}"

    def in_place(
        input_tensor_a: Tensor,
        input_tensor_b: Tensor | float,
        *,
        activations: Sequence[FusedFunction] = (),
        input_tensor_a_activations: Sequence[FusedFunction] = (),
        input_tensor_b_activations: Sequence[FusedFunction] = (),
        fast_and_approximate_mode: bool = function in _FAST_BY_DEFAULT,
    ) -> Tensor:
        output = apply_binary(
            op,
            function,
            input_tensor_a,
            input_tensor_b,
            after=activations,
            on_a=input_tensor_a_activations,
            on_b=input_tensor_b_activations,
            fast=fast_and_approximate_mode,
        )
        if output.shape != input_tensor_a.shape:
            raise EmulatorError(f"{op}: the output {output.shape} does not fit {first} {input_tensor_a.shape}")
        input_tensor_a.replace(output.data, output.plan)
        return input_tensor_a

    in_place.__name__ = in_place.__qualname__ = name
    in_place.__doc__ = f"{function} written into {first}, which is given back."
    dropped = () if modes else ("fast_and_approximate_mode",)
    own = renamed(in_place, {"input_tensor_a": first, "input_tensor_b": second}, dropped)
    return operation(op, accepts=_PLACES)(own)


_FAST_BY_DEFAULT = frozenset({"add", "subtract", "rsub"})

for _name in _COMPARISONS:
    _binary(_name)
for _name in _FLOATS:
    _binary(_name, floats_only=True)
for _name in _BOTH:
    _binary(_name)
for _name in _WITHOUT_PLACES:
    _binary(_name, places=False, also=_SCALAR)
for _name in _INTEGERS:
    _binary(_name, places=False)
for _name in _BITWISE:
    _bitwise(_name)
for _name in ("atan2", "hypot"):
    _bare(_name)
for _name in ("div_no_nan", "floor_div"):
    _bare(_name, also={"value": "input_tensor_b"})
_bare("fmod", _PLACES, {"scalar": "input_tensor_b"})
for _name in _IN_PLACE_PLAIN:
    _in_place(f"{_name}_", _name, "input_a", "input_b", modes=False)
for _name, _function in {"multiply_": "multiply", "mul_": "multiply", "divide_": "divide", "div_": "divide"}.items():
    _in_place(_name, _function, "input_a", "input_b", modes=True)
_in_place("rsub_", "rsub", "input_a", "input_b", modes=True)
for _name, _function in {"add_": "add", "subtract_": "subtract", "sub_": "subtract"}.items():
    _in_place(_name, _function, "input_tensor_a", "input_tensor_b", modes=True)
OPS.update({"ttnn.div": divide, "ttnn.mul": multiply, "ttnn.sub": subtract})


@operation("ttnn.pow", accepts="memory_config output_tensor")
def pow_(
    input_tensor: Tensor,
    exponent: Tensor | float,
    *,
    dtype: DataType | None = None,
    activations: Sequence[FusedFunction] = (),
    input_tensor_a_activations: Sequence[FusedFunction] = (),
    input_tensor_b_activations: Sequence[FusedFunction] = (),
) -> Tensor:
    """input_tensor to the power of a tensor or a number."""
    require_float("ttnn.pow", input_tensor=input_tensor)
    return apply_binary(
        "ttnn.pow",
        "pow",
        input_tensor,
        exponent,
        dtype=dtype,
        after=activations,
        on_a=input_tensor_a_activations,
        on_b=input_tensor_b_activations,
    )


@operation("ttnn.prelu", accepts="memory_config")
def prelu(input_tensor_a: Tensor, weight: Tensor | float) -> Tensor:
    """x where it is positive, else x times a weight: one number, or one per channel (dimension 1)."""
    require_float("ttnn.prelu", input_tensor_a=input_tensor_a)
    if isinstance(weight, Tensor) and weight.logical_volume() > 1:
        rank, channels = len(input_tensor_a.shape), weight.logical_volume()
        if rank < 2 or input_tensor_a.shape[1] != channels:
            raise EmulatorError(f"ttnn.prelu: weight {weight.shape} for channels of {input_tensor_a.shape}")
        weight = weight.reshape([1, channels, *[1] * (rank - 2)])
    return apply_binary("ttnn.prelu", "prelu", input_tensor_a, weight)


@operation("ttnn.isclose", accepts="memory_config")
def isclose(
    input_tensor_a: Tensor, input_tensor_b: Tensor, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """One where |a − b| ≤ atol + rtol·|b|."""
    close = input_tensor_a.values.isclose(input_tensor_b.values, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return result(close.to(input_tensor_a.values.dtype), input_tensor_a)


@operation("ttnn.addalpha", accepts="memory_config output_tensor")
def addalpha(input_tensor_a: Tensor, input_tensor_b: Tensor, alpha: float) -> Tensor:
    """a + alpha·b; the product is packed before the sum."""
    scaled = apply_binary("ttnn.addalpha", "multiply", input_tensor_b, alpha)
    return apply_binary("ttnn.addalpha", "add", input_tensor_a, scaled, fast=True)


@operation("ttnn.subalpha", accepts="memory_config output_tensor")
def subalpha(input_tensor_a: Tensor, input_tensor_b: Tensor, alpha: float) -> Tensor:
    """a − alpha·b; the product is packed before the difference."""
    scaled = apply_binary("ttnn.subalpha", "multiply", input_tensor_b, alpha)
    return apply_binary("ttnn.subalpha", "subtract", input_tensor_a, scaled, fast=True)


@operation("ttnn.outer", accepts="memory_config")
def outer(input_tensor_a: Tensor, input_tensor_b: Tensor) -> Tensor:
    """The outer product of two vectors, each with one size that is not 1: [1, 1, M, N]."""
    sizes = [[size for size in t.shape if size != 1] for t in (input_tensor_a, input_tensor_b)]
    if any(len(size) > 1 for size in sizes):
        raise EmulatorError(f"ttnn.outer: {input_tensor_a.shape} and {input_tensor_b.shape}; both must be vectors")
    column = input_tensor_a.reshape([1, 1, input_tensor_a.logical_volume(), 1])
    row = input_tensor_b.reshape([1, 1, 1, input_tensor_b.logical_volume()])
    return apply_binary("ttnn.outer", "multiply", column, row)


@operation("ttnn.polyval", accepts="memory_config")
def polyval(input_tensor_a: Tensor, coeffs: Sequence[float]) -> Tensor:
    """A polynomial by Horner's rule, the highest power's coefficient first; each step is packed."""
    if not coeffs:
        raise EmulatorError("ttnn.polyval: coeffs is empty")
    op = "ttnn.polyval"
    total = apply_binary(op, "add", apply_binary(op, "multiply", input_tensor_a, 0.0), coeffs[0], fast=True)
    for coefficient in coeffs[1:]:
        total = apply_binary(op, "multiply", total, input_tensor_a)
        total = apply_binary(op, "add", total, coefficient, fast=True)
    return total
