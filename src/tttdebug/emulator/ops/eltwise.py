# SPDX-License-Identifier: Apache-2.0
"""Elementwise ops of one and two operands, and the choice of the unit that computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.engines.functions import UNARY
from tttdebug.emulator.engines.further_functions import PARAMETERS
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import ELTWISE, ELTWISE_FP32
from tttdebug.emulator.operation import device_of, operation, require_float, result
from tttdebug.emulator.plans import Activation, BinaryPlan, UnaryPlan
from tttdebug.emulator.settings import SigmoidMode
from tttdebug.emulator.tensor import Tensor


class UnaryOpType(Enum):
    """The functions that can be fused into other ops; the value is the emulator's name."""

    ABS = "abs"
    ACOS = "acos"
    ACOSH = "acosh"
    ASIN = "asin"
    ASINH = "asinh"
    ATAN = "atan"
    ATANH = "atanh"
    CBRT = "cbrt"
    CEIL = "ceil"
    CELU = "celu"
    CLAMP_TSS = "clamp"
    COS = "cos"
    COSH = "cosh"
    DIGAMMA = "digamma"
    ELU = "elu"
    EQZ = "eqz"
    ERF = "erf"
    ERFC = "erfc"
    ERFINV = "erfinv"
    EXP = "exp"
    EXP2 = "exp2"
    EXPM1 = "expm1"
    FILL = "fill"
    FLOOR = "floor"
    FRAC = "frac"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    GEZ = "gez"
    GTZ = "gtz"
    HARDMISH = "hardmish"
    HARDSHRINK = "hardshrink"
    HARDSIGMOID = "hardsigmoid"
    HARDSWISH = "hardswish"
    HARDTANH = "hardtanh"
    HEAVISIDE = "heaviside"
    I0 = "i0"
    I1 = "i1"
    IDENTITY = "identity"
    ISFINITE = "isfinite"
    ISINF = "isinf"
    ISNAN = "isnan"
    ISNEGINF = "isneginf"
    ISPOSINF = "isposinf"
    LEAKY_RELU = "leaky_relu"
    LEZ = "lez"
    LGAMMA = "lgamma"
    LOG = "log"
    LOG10 = "log10"
    LOG1P = "log1p"
    LOG2 = "log2"
    LOGICAL_NOT_UNARY = "logical_not"
    LOGIT = "logit"
    LOGSIGMOID = "log_sigmoid"
    LTZ = "ltz"
    MISH = "mish"
    NEG = "neg"
    NEZ = "nez"
    POWER = "power"
    RDIV = "rdiv"
    RECIP = "reciprocal"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_MAX = "relu_max"
    RELU_MIN = "relu_min"
    ROUND = "round"
    RPOW = "rpow"
    RSQRT = "rsqrt"
    SELU = "selu"
    SIGMOID = "sigmoid"
    SIGN = "sign"
    SIGNBIT = "signbit"
    SILU = "silu"
    SIN = "sin"
    SINH = "sinh"
    SOFTCAP = "softcap"
    SOFTPLUS = "softplus"
    SOFTSHRINK = "softshrink"
    SOFTSIGN = "softsign"
    SQRT = "sqrt"
    SQUARE = "square"
    TAN = "tan"
    TANH = "tanh"
    TANHSHRINK = "tanhshrink"
    THRESHOLD = "threshold"
    TRUNC = "trunc"


class GeluVariant(Enum):
    """Which gelu: the exact one, a table of straight lines, or the approximation by tanh."""

    Accurate = 0
    FastLut = 1
    Tanh = 2


class UnaryWithParam:
    """A fusable function with its parameters; erf, exp, gelu, tanh and the roots take one that asks for
    their fast mode."""

    def __init__(self, op_type: UnaryOpType, *parameters: float) -> None:
        self.op_type, self.parameters = op_type, parameters

    def __repr__(self) -> str:
        return f"UnaryWithParam({', '.join(str(value) for value in (self.op_type, *self.parameters))})"


FusedFunction = str | UnaryOpType | UnaryWithParam
_APPROXIMABLE = ("erf", "exp", "gelu", "tanh")
_UNGUARDED = {"rsqrt": "rsqrt_fast", "sqrt": "sqrt_fast"}  # their fast mode only leaves out what negative numbers need


def as_activation(op: str, function: FusedFunction) -> Activation:
    """A function as users name it (a string, a UnaryOpType, a UnaryWithParam), resolved."""
    given = function if isinstance(function, UnaryWithParam) else None
    kind = given.op_type if given else function
    parameters = given.parameters if given else ()
    name = kind.value if isinstance(kind, UnaryOpType) else kind
    if not isinstance(name, str) or name not in UNARY:
        raise EmulatorError(f"{op}: activation {function!r} is not emulated; known are {', '.join(UNARY)}")
    if name in _APPROXIMABLE and len(parameters) == 1:
        return Activation(name, approx=bool(parameters[0]))
    if name in _UNGUARDED and len(parameters) == 1:
        return Activation(_UNGUARDED[name] if parameters[0] else name)
    wanted = PARAMETERS.get(name, 0)
    if len(parameters) != wanted:
        raise EmulatorError(
            f"{op}: activation {function!r} is not emulated with {len(parameters)} parameters, only with {wanted}"
        )
    return Activation(name, parameters=tuple(float(value) for value in parameters))


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
        if fast_and_approximate_mode and name in _UNGUARDED:
            function = Activation(_UNGUARDED[name])
        return _compute(op, input_tensor, UnaryPlan(function, input_tensor.dtype.format))

    unary.__name__ = unary.__qualname__ = name
    unary.__doc__ = f"{name} of every element, by the chip's quicker approximation when asked."
    return unary


def _compute(op: str, x: Tensor, plan: UnaryPlan) -> Tensor:
    if plan.activation.name not in _INTEGER_TOO:
        require_float(op, input_tensor=x)
    return result(device_of(x).engine.unary(x.values, plan), x, plan=plan)


_INTEGER_TOO = frozenset({"abs", "neg", "relu", "square"})
_NO_FAST_MODE: dict[str, object] = {"fast_and_approximate_mode": False}

abs_ = _unary("abs")
erf = _approximable("erf")
exp2 = _unary("exp2")
expm1 = _unary("expm1")
log = _unary("log", _NO_FAST_MODE)
log1p = _unary("log1p", _NO_FAST_MODE)
neg = _unary("neg")
reciprocal = _unary("reciprocal")
relu = _unary("relu")
relu6 = _unary("relu6")
silu = _unary("silu")
square = _unary("square")
exp = _approximable("exp")
rsqrt = _approximable("rsqrt")
sqrt = _approximable("sqrt")
tanh = _approximable("tanh")


@operation("ttnn.sigmoid", accepts="memory_config output_tensor sub_core_grids", only={"vector_mode": 4})
def sigmoid(input_tensor: Tensor, *, mode: SigmoidMode = SigmoidMode.Accurate) -> Tensor:
    """sigmoid of every element: the accurate one, or by the chip's table of straight lines."""
    if mode is SigmoidMode.AccurateWithFastExp or not isinstance(mode, SigmoidMode):
        raise EmulatorError(f"ttnn.sigmoid: mode={mode!r} is not emulated, only Accurate and FastApproximate")
    function = Activation("sigmoid", approx=mode is SigmoidMode.FastApproximate)
    return _compute("ttnn.sigmoid", input_tensor, UnaryPlan(function, input_tensor.dtype.format))


@operation("ttnn.gelu", accepts="memory_config output_tensor sub_core_grids")
def gelu(
    input_tensor: Tensor, *, variant: GeluVariant | None = None, fast_and_approximate_mode: bool = False
) -> Tensor:
    """gelu of every element: the exact one, its tanh approximation, or by the chip's table."""
    approx = fast_and_approximate_mode or variant is GeluVariant.FastLut
    function = Activation("gelu_tanh") if variant is GeluVariant.Tanh else Activation("gelu", approx=approx)
    return _compute("ttnn.gelu", input_tensor, UnaryPlan(function, input_tensor.dtype.format))


def _binary(
    name: str,
    *,
    fpu: bool,
    further: str,
    only: dict[str, object] | None = None,
    also: dict[str, str] | None = None,
) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts=f"memory_config output_tensor {further}", only=only, also=also)
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
        return apply_binary(
            op,
            name,
            input_tensor_a,
            input_tensor_b,
            dtype=dtype,
            after=activations,
            on_a=input_tensor_a_activations,
            on_b=input_tensor_b_activations,
            fast=fast_and_approximate_mode,
        )

    binary.__name__ = binary.__qualname__ = name
    binary.__doc__ = f"{name}, elementwise with broadcasting; the output has the first operand's data type."
    return binary


def apply_binary(
    op: str,
    function: str,
    a: Tensor | float,
    b: Tensor | float,
    *,
    dtype: DataType | None = None,
    after: Sequence[FusedFunction] = (),
    on_a: Sequence[FusedFunction] = (),
    on_b: Sequence[FusedFunction] = (),
    fast: bool = False,
) -> Tensor:
    """A function of two operands on the unit that ttnn takes for it, for an op named `op`.

    Raises EmulatorError when both are scalars, types do not mix or shapes do not broadcast.
    """
    if not isinstance(a, Tensor):
        if not isinstance(b, Tensor) or function not in _WITH_SCALAR_FIRST:
            raise EmulatorError(f"{op}: operands {a!r} and {b!r}; the first must be a tensor")
        a, b, function, on_a, on_b = b, a, _WITH_SCALAR_FIRST[function], on_b, ()
    if not isinstance(b, (Tensor, int, float)):
        raise EmulatorError(f"{op}: operands {a!r} and {b!r}; the second must be a tensor or a number")
    b_dtype = b.dtype if isinstance(b, Tensor) else a.dtype
    if a.dtype.is_float != b_dtype.is_float or (dtype or a.dtype).is_float != a.dtype.is_float:
        raise EmulatorError(f"{op}: {a.dtype} and {b_dtype} do not mix; typecast one of them")
    if isinstance(b, Tensor):
        _check_broadcast(op, a, b)
    output = dtype or a.dtype
    fp32 = DataType.FLOAT32 in (a.dtype, b_dtype, output)
    plan = BinaryPlan(
        function,
        _unit(function, a.dtype, b_dtype, fast),
        ELTWISE_FP32 if fp32 else ELTWISE,
        a.dtype.format,
        b_dtype.format,
        output.format,
        tuple(as_activation(op, f) for f in on_a),
        tuple(as_activation(op, f) for f in on_b),
        tuple(as_activation(op, f) for f in after),
    )
    values = device_of(a).engine.binary(a.values, b.values if isinstance(b, Tensor) else b, plan)
    return result(values, a, output, plan)


_WITH_SCALAR_FIRST = {"add": "add", "multiply": "multiply", "subtract": "rsub"}

_ON_MATRIX_UNIT = frozenset({"add", "subtract", "rsub", "multiply"})  # the others have no form there
_PLACES = "sub_core_grids sub_device_id"

add = _binary("add", fpu=True, further=_PLACES)
subtract = _binary("subtract", fpu=True, further=_PLACES)
multiply = _binary("multiply", fpu=False, further=_PLACES)
divide = _binary("divide", fpu=False, further=_PLACES, only={"rounding_mode": None}, also={"value": "input_tensor_b"})
rsub = _binary("rsub", fpu=True, further="", also={"input_b": "input_tensor_b"})


def _unit(function: str, a: DataType, b: DataType, fast: bool) -> str:
    """Which unit ttnn gives a binary op to."""
    if a is b is DataType.FLOAT32 or function not in _ON_MATRIX_UNIT or not (a.is_float and b.is_float):
        return "sfpu"
    if function == "multiply":
        return "fpu" if fast or a.is_block or b.is_block else "sfpu"
    return "fpu" if fast else "sfpu"


def _check_broadcast(op: str, a: Tensor, b: Tensor) -> None:
    for left, right in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if left != right and 1 not in (left, right):
            raise EmulatorError(f"{op}: shapes {a.shape} and {b.shape} do not broadcast")
