# SPDX-License-Identifier: Apache-2.0
"""Elementwise ops of one and two operands, and the choice of the unit that computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.engines.functions import UNARY
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import ELTWISE, ELTWISE_FP32
from tttdebug.emulator.operation import device_of, operation, require_float, result
from tttdebug.emulator.plans import Activation, BinaryPlan, UnaryPlan
from tttdebug.emulator.tensor import Tensor


class UnaryOpType(Enum):
    """The functions that can be fused into other ops; the value is the emulator's name."""

    ABS = "abs"
    ERF = "erf"
    EXP = "exp"
    EXP2 = "exp2"
    EXPM1 = "expm1"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    IDENTITY = "identity"
    LOG = "log"
    LOG1P = "log1p"
    NEG = "neg"
    RECIP = "reciprocal"
    RELU = "relu"
    RELU6 = "relu6"
    RSQRT = "rsqrt"
    SIGMOID = "sigmoid"
    SILU = "silu"
    SQRT = "sqrt"
    SQUARE = "square"
    TANH = "tanh"


class GeluVariant(Enum):
    """Which gelu: the exact one, a table of straight lines, or the approximation by tanh."""

    Accurate = 0
    FastLut = 1
    Tanh = 2


class UnaryWithParam:
    """A fusable function with its parameters; exp, gelu and rsqrt take one that asks for their approximation."""

    def __init__(self, op_type: UnaryOpType, *parameters: float) -> None:
        self.op_type, self.parameters = op_type, parameters

    def __repr__(self) -> str:
        return f"UnaryWithParam({', '.join(str(value) for value in (self.op_type, *self.parameters))})"


FusedFunction = str | UnaryOpType | UnaryWithParam
_APPROXIMABLE = ("exp", "gelu", "rsqrt")


def as_activation(op: str, function: FusedFunction) -> Activation:
    """A function as users name it (a string, a UnaryOpType, a UnaryWithParam), resolved."""
    if isinstance(function, UnaryWithParam):
        name, parameters = function.op_type.value, function.parameters
        if len(parameters) > (name in _APPROXIMABLE):
            raise EmulatorError(f"{op}: activation {function!r} is not emulated with these parameters")
        return Activation(name, approx=any(parameters))
    if isinstance(function, UnaryOpType):
        return Activation(function.value)
    if isinstance(function, str) and function in UNARY:
        return Activation(function)
    raise EmulatorError(f"{op}: activation {function!r} is not emulated; known are {', '.join(UNARY)}")


def _unary(name: str, only: dict[str, object] | None = None) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config output_tensor sub_core_grids", only=only)
    def unary(input_tensor: Tensor) -> Tensor:
        return _compute(op, input_tensor, UnaryPlan(Activation(name), input_tensor.dtype.format))

    unary.__name__ = unary.__qualname__ = name
    unary.__doc__ = f"{name} of every element."
    return unary


def _approximable(name: str, only: dict[str, object] | None = None) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config output_tensor sub_core_grids", only=only)
    def unary(input_tensor: Tensor, *, fast_and_approximate_mode: bool = False) -> Tensor:
        function = Activation(name, approx=fast_and_approximate_mode)
        return _compute(op, input_tensor, UnaryPlan(function, input_tensor.dtype.format))

    unary.__name__ = unary.__qualname__ = name
    unary.__doc__ = f"{name} of every element, by the chip's quicker approximation when asked."
    return unary


def _compute(op: str, x: Tensor, plan: UnaryPlan) -> Tensor:
    require_float(op, input_tensor=x)
    return result(device_of(x).engine.unary(x.values, plan), x, plan=plan)


_NO_FAST_MODE: dict[str, object] = {"fast_and_approximate_mode": False}

abs_ = _unary("abs")
erf = _unary("erf", _NO_FAST_MODE)
exp2 = _unary("exp2")
expm1 = _unary("expm1")
log = _unary("log", _NO_FAST_MODE)
log1p = _unary("log1p", _NO_FAST_MODE)
neg = _unary("neg")
reciprocal = _unary("reciprocal")
relu = _unary("relu")
relu6 = _unary("relu6")
sigmoid = _unary("sigmoid", {"vector_mode": 4, "mode": None})
silu = _unary("silu")
sqrt = _unary("sqrt", _NO_FAST_MODE)
square = _unary("square")
tanh = _unary("tanh", _NO_FAST_MODE)
exp = _approximable("exp")
rsqrt = _approximable("rsqrt")


@operation("ttnn.gelu", accepts="memory_config output_tensor sub_core_grids")
def gelu(
    input_tensor: Tensor, *, variant: GeluVariant | None = None, fast_and_approximate_mode: bool = False
) -> Tensor:
    """gelu of every element: the exact one, its tanh approximation, or by the chip's table."""
    approx = fast_and_approximate_mode or variant is GeluVariant.FastLut
    function = Activation("gelu_tanh") if variant is GeluVariant.Tanh else Activation("gelu", approx=approx)
    return _compute("ttnn.gelu", input_tensor, UnaryPlan(function, input_tensor.dtype.format))


def _binary(name: str, *, fpu: bool, further: str, only: dict[str, object] | None = None) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts=f"memory_config output_tensor {further}", only=only)
    def binary(
        input_tensor_a: Tensor | float,
        input_tensor_b: Tensor | float,
        *,
        dtype: DataType | None = None,
        activations: Sequence[FusedFunction] = (),
        input_tensor_a_activations: Sequence[FusedFunction] = (),
        input_tensor_b_activations: Sequence[FusedFunction] = (),
        fast_and_approximate_mode: bool = fpu,
    ) -> Tensor:
        a, b, function = input_tensor_a, input_tensor_b, name
        if not isinstance(a, Tensor):
            if not isinstance(b, Tensor) or name not in _WITH_SCALAR_FIRST:
                raise EmulatorError(f"{op}: operands {a!r} and {b!r}; the first must be a tensor")
            a, b, function = b, a, _WITH_SCALAR_FIRST[name]
            input_tensor_a_activations, input_tensor_b_activations = input_tensor_b_activations, ()
        b_dtype = b.dtype if isinstance(b, Tensor) else a.dtype
        if a.dtype.is_float != b_dtype.is_float or (dtype or a.dtype).is_float != a.dtype.is_float:
            raise EmulatorError(f"{op}: {a.dtype} and {b_dtype} do not mix; typecast one of them")
        if isinstance(b, Tensor):
            _check_broadcast(op, a, b)
        output = dtype or a.dtype
        fp32 = DataType.FLOAT32 in (a.dtype, b_dtype, output)
        plan = BinaryPlan(
            function,
            _unit(function, a.dtype, b_dtype, fast_and_approximate_mode),
            ELTWISE_FP32 if fp32 else ELTWISE,
            a.dtype.format,
            b_dtype.format,
            output.format,
            tuple(as_activation(op, f) for f in input_tensor_a_activations),
            tuple(as_activation(op, f) for f in input_tensor_b_activations),
            tuple(as_activation(op, f) for f in activations),
        )
        values = device_of(a).engine.binary(a.values, b.values if isinstance(b, Tensor) else b, plan)
        return result(values, a, output, plan)

    binary.__name__ = binary.__qualname__ = name
    binary.__doc__ = f"{name}, elementwise with broadcasting; the output has the first operand's data type."
    return binary


_WITH_SCALAR_FIRST = {"add": "add", "multiply": "multiply", "subtract": "rsub"}

_PLACES = "sub_core_grids sub_device_id"

add = _binary("add", fpu=True, further=_PLACES)
subtract = _binary("subtract", fpu=True, further=_PLACES)
multiply = _binary("multiply", fpu=False, further=_PLACES)
divide = _binary("divide", fpu=False, further=_PLACES, only={"rounding_mode": None, "value": None})
rsub = _binary("rsub", fpu=True, further="", only={"input_b": None})


def _unit(function: str, a: DataType, b: DataType, fast: bool) -> str:
    """Which unit ttnn gives a binary op to."""
    if a is b is DataType.FLOAT32 or function == "divide" or not (a.is_float and b.is_float):
        return "sfpu"
    if function == "multiply":
        return "fpu" if fast or a.is_block or b.is_block else "sfpu"
    return "fpu" if fast else "sfpu"


def _check_broadcast(op: str, a: Tensor, b: Tensor) -> None:
    for left, right in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if left != right and 1 not in (left, right):
            raise EmulatorError(f"{op}: shapes {a.shape} and {b.shape} do not broadcast")
