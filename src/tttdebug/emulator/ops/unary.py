# SPDX-License-Identifier: Apache-2.0
"""The rarer elementwise functions of one operand, from a table of ttnn's own signatures.

The functions that language models live on, with their approximations, are in `eltwise`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import OPS, device_of, operation, require_float, result
from tttdebug.emulator.ops.eltwise import silu
from tttdebug.emulator.plans import Activation, UnaryPlan
from tttdebug.emulator.tensor import Tensor

_PLAIN = """
acos acosh asin asinh atan atanh cbrt ceil cos cosh deg2rad digamma eqz erfc erfinv floor frac gez gtz hardmish
hardsigmoid hardswish i0 i1 identity isfinite isinf isnan isneginf isposinf lez lgamma log_sigmoid logical_not ltz nez
rad2deg sign signbit sin sinh softsign tan tanhshrink trunc
""".split()  # noqa: SIM905

# What follows the tensor, as in ttnn.
_WITH_PARAMETERS = {
    "celu": "*, alpha=1.0",
    "elu": "*, alpha=1.0",
    "fill": "fill_value",
    "hardshrink": "*, lambd=0.5",
    "hardtanh": "*, min_val=-1.0, max_val=1.0",
    "heaviside": "value",
    "leaky_relu": "negative_slope",
    "relu_max": "upper_limit",
    "relu_min": "lower_limit",
    "round": "*, decimals=0",
    "rpow": "exponent",
    "selu": "*, scale=1.0506999492645264, alpha=1.673259973526001",
    "softcap": "beta",
    "softplus": "*, beta=1.0, threshold=20.0",
    "softshrink": "*, lambd=0.5",
    "threshold": "threshold, value",
}
_ONE_MODE = ("log10", "log2", "mish")  # fast_and_approximate_mode is emulated as False only
_INTEGER_TOO = frozenset("eqz fill gez gtz identity lez logical_not ltz nez relu_max relu_min sign".split())  # noqa: SIM905


def _unary(name: str, parameters: str = "", only: dict[str, object] | None = None) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"
    signature = _signature(parameters)

    def unary(*args: Any, **kwargs: Any) -> Tensor:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        x, *values = bound.arguments.values()
        if name not in _INTEGER_TOO:
            require_float(op, input_tensor=x)
        for key, value in zip(list(signature.parameters)[1:], values, strict=True):
            if not isinstance(value, (int, float)):
                raise EmulatorError(f"{op}: {key}={value!r}; give a number")
        plan = UnaryPlan(Activation(name, parameters=tuple(float(v) for v in values)), x.dtype.format)
        return result(device_of(x).engine.unary(x.values, plan), x, plan=plan)

    vars(unary)["__signature__"] = signature
    unary.__name__ = unary.__qualname__ = name
    unary.__doc__ = f"{name} of every element."
    return operation(op, accepts="memory_config output_tensor sub_core_grids", only=only)(unary)


def _signature(parameters: str) -> inspect.Signature:
    """The tensor, then the parameters as written."""
    scope: dict[str, Any] = {}
    exec(f"def written(input_tensor{', ' * bool(parameters)}{parameters}): ...", scope)
    tensor, *others = inspect.signature(scope["written"]).parameters.values()
    return inspect.Signature([tensor.replace(annotation="Tensor"), *others])


for _name in _PLAIN:
    _unary(_name)
for _name in _ONE_MODE:
    _unary(_name, only={"fast_and_approximate_mode": False})
for _name, _parameters in _WITH_PARAMETERS.items():
    _unary(_name, _parameters)
OPS["ttnn.swish"] = silu


@operation("ttnn.sigmoid_accurate", accepts="memory_config output_tensor sub_core_grids")
def sigmoid_accurate(input_tensor: Tensor, fast_and_approximate_mode: bool = False) -> Tensor:
    """The sigmoid of every element; the emulator has no approximate one."""
    if fast_and_approximate_mode:
        raise EmulatorError("ttnn.sigmoid_accurate: fast_and_approximate_mode=True is not emulated, only False")
    return _applied("ttnn.sigmoid_accurate", input_tensor, Activation("sigmoid"))


@operation("ttnn.logit", accepts="memory_config output_tensor sub_core_grids")
def logit(input_tensor: Tensor, *, eps: float | None = None) -> Tensor:
    """log(x / (1 − x)), with x kept between eps and 1 − eps when eps is given."""
    return _applied("ttnn.logit", input_tensor, Activation("logit", parameters=(-1.0 if eps is None else eps,)))


@operation("ttnn.rdiv", accepts="memory_config output_tensor sub_core_grids", only={"rounding_mode": None})
def rdiv(input_tensor: Tensor, value: float) -> Tensor:
    """value / x for every element."""
    return _applied("ttnn.rdiv", input_tensor, Activation("rdiv", parameters=(float(value),)))


@operation("ttnn.bitwise_not", accepts="memory_config output_tensor sub_core_grids")
def bitwise_not(input_tensor: Tensor) -> Tensor:
    """Every bit of an int32 turned."""
    return result(~input_tensor.values, input_tensor)


@operation("ttnn.unary_chain", accepts="memory_config output_tensor sub_core_grids")
def unary_chain(input_tensor: Tensor, ops_chain: list[Any]) -> Tensor:
    """Functions applied one after the other; the emulator packs between them."""
    from tttdebug.emulator.ops.eltwise import as_activation

    for function in ops_chain:
        input_tensor = _applied("ttnn.unary_chain", input_tensor, as_activation("ttnn.unary_chain", function))
    return input_tensor


def _applied(op: str, x: Tensor, activation: Activation) -> Tensor:
    require_float(op, input_tensor=x)
    plan = UnaryPlan(activation, x.dtype.format)
    return result(device_of(x).engine.unary(x.values, plan), x, plan=plan)
