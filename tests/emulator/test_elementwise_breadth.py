# SPDX-License-Identifier: Apache-2.0
"""Every elementwise op beside torch's function of the same meaning, on both engines."""

import math

import pytest
import torch
import torch.nn.functional as F
from device_tensors import near, randn, upload

from tttdebug.emulator import EmulatorError, ttnn
from tttdebug.emulator.operation import OPS

ALL, POSITIVE, UNIT, ABOVE_ONE = "all", "positive", "unit", "above one"


def numbers(domain):
    x = randn(2, 32, 64)
    if domain == POSITIVE:
        return (x.abs() + 0.25).bfloat16().float()
    if domain == UNIT:
        return (x / 4).clamp(-0.9, 0.9).bfloat16().float()
    if domain == ABOVE_ONE:
        return (x.abs() + 1.25).bfloat16().float()
    return x


def flag(condition):
    return lambda x: condition(x).float()


# ttnn's name: torch's function, arguments after the tensor, keywords, where it is tried
UNARY = {
    "abs": (torch.abs, (), {}, ALL),
    "acos": (torch.acos, (), {}, UNIT),
    "acosh": (torch.acosh, (), {}, ABOVE_ONE),
    "asin": (torch.asin, (), {}, UNIT),
    "asinh": (torch.asinh, (), {}, ALL),
    "atan": (torch.atan, (), {}, ALL),
    "atanh": (torch.atanh, (), {}, UNIT),
    "cbrt": (lambda x: x.sign() * x.abs() ** (1 / 3), (), {}, ALL),
    "ceil": (torch.ceil, (), {}, ALL),
    "celu": (lambda x: F.celu(x, 0.5), (), {"alpha": 0.5}, ALL),
    "cos": (torch.cos, (), {}, ALL),
    "cosh": (torch.cosh, (), {}, ALL),
    "deg2rad": (torch.deg2rad, (), {}, ALL),
    "digamma": (torch.digamma, (), {}, POSITIVE),
    "elu": (lambda x: F.elu(x, 0.5), (), {"alpha": 0.5}, ALL),
    "eqz": (flag(lambda x: x == 0), (), {}, ALL),
    "erf": (torch.erf, (), {}, ALL),
    "erfc": (torch.erfc, (), {}, ALL),
    "erfinv": (torch.erfinv, (), {}, UNIT),
    "exp": (torch.exp, (), {}, ALL),
    "exp2": (torch.exp2, (), {}, ALL),
    "expm1": (torch.expm1, (), {}, ALL),
    "fill": (lambda x: torch.full_like(x, 2.5), (2.5,), {}, ALL),
    "floor": (torch.floor, (), {}, ALL),
    "frac": (torch.frac, (), {}, ALL),
    "gelu": (F.gelu, (), {}, ALL),
    "gez": (flag(lambda x: x >= 0), (), {}, ALL),
    "gtz": (flag(lambda x: x > 0), (), {}, ALL),
    "hardmish": (lambda x: x * (x / 2 + 1).clamp(0, 1), (), {}, ALL),
    "hardshrink": (lambda x: F.hardshrink(x, 1.0), (), {"lambd": 1.0}, ALL),
    "hardsigmoid": (F.hardsigmoid, (), {}, ALL),
    "hardswish": (F.hardswish, (), {}, ALL),
    "hardtanh": (lambda x: x.clamp(-0.5, 0.75), (), {"min_val": -0.5, "max_val": 0.75}, ALL),
    "heaviside": (flag(lambda x: x > 0), (0.5,), {}, POSITIVE),
    "i0": (torch.i0, (), {}, ALL),
    "i1": (torch.special.i1, (), {}, ALL),
    "identity": (lambda x: x, (), {}, ALL),
    "isfinite": (flag(torch.isfinite), (), {}, ALL),
    "isinf": (flag(torch.isinf), (), {}, ALL),
    "isnan": (flag(torch.isnan), (), {}, ALL),
    "isneginf": (flag(torch.isneginf), (), {}, ALL),
    "isposinf": (flag(torch.isposinf), (), {}, ALL),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), (0.2,), {}, ALL),
    "lez": (flag(lambda x: x <= 0), (), {}, ALL),
    "lgamma": (torch.lgamma, (), {}, POSITIVE),
    "log": (torch.log, (), {}, POSITIVE),
    "log10": (torch.log10, (), {}, POSITIVE),
    "log1p": (torch.log1p, (), {}, POSITIVE),
    "log2": (torch.log2, (), {}, POSITIVE),
    "log_sigmoid": (F.logsigmoid, (), {}, ALL),
    "logical_not": (flag(lambda x: x == 0), (), {}, ALL),
    "logit": (lambda x: torch.logit(x, 0.1), (), {"eps": 0.1}, UNIT),
    "ltz": (flag(lambda x: x < 0), (), {}, ALL),
    "mish": (F.mish, (), {}, ALL),
    "neg": (torch.neg, (), {}, ALL),
    "nez": (flag(lambda x: x != 0), (), {}, ALL),
    "rad2deg": (torch.rad2deg, (), {}, ALL),
    "rdiv": (lambda x: 3 / x, (3.0,), {}, POSITIVE),
    "reciprocal": (torch.reciprocal, (), {}, POSITIVE),
    "relu": (F.relu, (), {}, ALL),
    "relu6": (F.relu6, (), {}, ALL),
    "relu_max": (lambda x: x.clamp(0, 0.75), (0.75,), {}, ALL),
    "relu_min": (lambda x: x.clamp(min=0.25), (0.25,), {}, ALL),
    "round": (torch.round, (), {}, ALL),
    "rpow": (lambda x: 2.0**x, (2.0,), {}, ALL),
    "rsqrt": (torch.rsqrt, (), {}, POSITIVE),
    "selu": (F.selu, (), {}, ALL),
    "sigmoid": (torch.sigmoid, (), {}, ALL),
    "sigmoid_accurate": (torch.sigmoid, (), {}, ALL),
    "sign": (torch.sign, (), {}, ALL),
    "signbit": (flag(torch.signbit), (), {}, ALL),
    "silu": (F.silu, (), {}, ALL),
    "sin": (torch.sin, (), {}, ALL),
    "sinh": (torch.sinh, (), {}, ALL),
    "softcap": (lambda x: 2 * torch.tanh(x / 2), (2.0,), {}, ALL),
    "softplus": (lambda x: F.softplus(x, 2.0, 5.0), (), {"beta": 2.0, "threshold": 5.0}, ALL),
    "softshrink": (lambda x: F.softshrink(x, 0.25), (), {"lambd": 0.25}, ALL),
    "softsign": (F.softsign, (), {}, ALL),
    "sqrt": (torch.sqrt, (), {}, POSITIVE),
    "square": (torch.square, (), {}, ALL),
    "swish": (F.silu, (), {}, ALL),
    "tan": (torch.tan, (), {}, UNIT),
    "tanh": (torch.tanh, (), {}, ALL),
    "tanhshrink": (lambda x: x - torch.tanh(x), (), {}, ALL),
    "threshold": (lambda x: F.threshold(x, 0.5, -2.0), (0.5, -2.0), {}, ALL),
    "trunc": (torch.trunc, (), {}, ALL),
}

# A pair of tensors each; integers where only those are taken.
BINARY = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "rsub": lambda a, b: b - a,
    "eq": lambda a, b: (a == b).float(),
    "ne": lambda a, b: (a != b).float(),
    "lt": lambda a, b: (a < b).float(),
    "le": lambda a, b: (a <= b).float(),
    "gt": lambda a, b: (a > b).float(),
    "ge": lambda a, b: (a >= b).float(),
    "logical_and": lambda a, b: torch.logical_and(a, b).float(),
    "logical_or": lambda a, b: torch.logical_or(a, b).float(),
    "logical_xor": lambda a, b: torch.logical_xor(a, b).float(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "squared_difference": lambda a, b: (a - b) ** 2,
    "ldexp": torch.ldexp,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "floor_div": torch.floor_divide,
}
POSITIVE_FIRST = {"pow": torch.pow, "xlogy": torch.xlogy, "div_no_nan": torch.div}
INTEGER = {
    "bitwise_and": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
    "bitwise_left_shift": torch.bitwise_left_shift,
    "bitwise_right_shift": torch.bitwise_right_shift,
    "gcd": torch.gcd,
    "lcm": torch.lcm,
}


@pytest.mark.parametrize("name", sorted(UNARY))
@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.float32])
def test_a_function_of_one_operand(any_device, name, dtype):
    exact, arguments, options, domain = UNARY[name]
    x = numbers(domain)
    computed = getattr(ttnn, name)(upload(any_device, x, dtype), *arguments, **options)
    assert computed.dtype is dtype
    wanted = exact(x)
    if not wanted.any():  # of a condition that no number here fulfils
        assert not ttnn.to_torch(computed).any()
    else:
        near(
            any_device, computed, wanted, 1e-5 if dtype is ttnn.float32 and any_device.engine.name == "ideal" else None
        )


def test_conditions_find_what_is_not_finite(any_device):
    x = torch.full((32, 32), 1.0)
    x[0, :4] = torch.tensor([math.inf, -math.inf, 0.0, -1.0])
    a = upload(any_device, x, ttnn.float32)
    for name, places in {
        "isinf": [0, 1],
        "isposinf": [0],
        "isneginf": [1],
        "eqz": [2],
        "logical_not": [2],
        "ltz": [1, 3],
        "signbit": [1, 3],
    }.items():
        found = ttnn.to_torch(getattr(ttnn, name)(a)).flatten().nonzero().flatten().tolist()
        assert found == places, name
    assert ttnn.to_torch(ttnn.isfinite(a)).flatten()[:4].tolist() == [0, 0, 1, 1]
    x[0, 0] = math.nan
    assert ttnn.to_torch(ttnn.isnan(upload(any_device, x, ttnn.float32))).sum() == 1


@pytest.mark.parametrize("name", sorted(BINARY))
def test_a_function_of_two_operands(any_device, name):
    a, b = randn(2, 32, 64), randn(2, 1, 64)
    a[0, 0, :8], a[0, 1, :8], b[0, 0, :4] = 0, b[0, 0, :8], 0.5
    if name in ("fmod", "remainder", "floor_div", "divide"):
        b = (b.abs() + 0.5).bfloat16().float()
        if name != "divide":  # away from whole quotients, where a rounding would change the answer by one
            a = (b * (torch.randint(-3, 3, a.shape) + 0.5)).bfloat16().float()
    x, y = upload(any_device, a), upload(any_device, b)
    near(any_device, getattr(ttnn, name)(x, y), BINARY[name](a, b))


@pytest.mark.parametrize("name", sorted(POSITIVE_FIRST))
def test_a_function_of_a_positive_operand_and_another(any_device, name):
    a, b = numbers(POSITIVE), numbers(POSITIVE)
    near(any_device, getattr(ttnn, name)(upload(any_device, a), upload(any_device, b)), POSITIVE_FIRST[name](a, b))


def test_dividing_by_zero_without_nan_gives_zero(any_device):
    a = upload(any_device, torch.ones(32, 32))
    assert not ttnn.to_torch(ttnn.div_no_nan(a, upload(any_device, torch.zeros(32, 32)))).any()


@pytest.mark.parametrize("name", sorted(INTEGER))
def test_a_function_of_integers(any_device, name):
    a, b = torch.randint(0, 1000, (32, 32)), torch.randint(0, 8, (32, 32))
    x, y = (upload(any_device, t, ttnn.int32) for t in (a, b))
    assert torch.equal(ttnn.to_torch(getattr(ttnn, name)(x, y)).long(), INTEGER[name](a, b))
    with pytest.raises(EmulatorError, match=rf"ttnn\.{name}: input_tensor_a is DataType.BFLOAT16; .*takes INT32"):
        getattr(ttnn, name)(upload(any_device, a), upload(any_device, b))


def test_bits_of_integers_turn(any_device):
    x = torch.tensor([[0, 1, -5, 100]])
    assert torch.equal(ttnn.to_torch(ttnn.bitwise_not(upload(any_device, x, ttnn.int32))).long(), ~x)


def test_a_number_may_be_the_second_operand(any_device):
    x = randn(32, 64)
    a = upload(any_device, x)
    for computed, exact in (
        (ttnn.gt(a, 0.5), (x > 0.5).float()),
        (ttnn.maximum(a, 0.5), x.clamp(min=0.5)),
        (ttnn.maximum(a, input_b=0.5), x.clamp(min=0.5)),
        (ttnn.minimum(a, -0.5), x.clamp(max=-0.5)),
        (ttnn.pow(a, 2.0), x**2),
        (ttnn.pow(a, exponent=3), x**3),
        (ttnn.fmod(a, scalar=10.0), x),
        (ttnn.squared_difference(a, 1.0), (x - 1) ** 2),
    ):
        near(any_device, computed, exact)
    with pytest.raises(EmulatorError, match=r"ttnn\.maximum: input_b and input_tensor_b are one argument, given twice"):
        ttnn.maximum(a, input_tensor_b=1.0, input_b=0.5)


IN_PLACE = {
    "add_": torch.add,
    "subtract_": torch.sub,
    "sub_": torch.sub,
    "multiply_": torch.mul,
    "mul_": torch.mul,
    "divide_": torch.div,
    "div_": torch.div,
    "rsub_": lambda a, b: b - a,
    "eq_": BINARY["eq"],
    "ne_": BINARY["ne"],
    "lt_": BINARY["lt"],
    "le_": BINARY["le"],
    "gt_": BINARY["gt"],
    "ge_": BINARY["ge"],
    "logical_and_": BINARY["logical_and"],
    "logical_or_": BINARY["logical_or"],
    "logical_xor_": BINARY["logical_xor"],
    "ldexp_": torch.ldexp,
    "logaddexp_": torch.logaddexp,
    "logaddexp2_": torch.logaddexp2,
    "squared_difference_": BINARY["squared_difference"],
}


@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_the_in_place_form_writes_its_first_operand(any_device, name):
    a, b = randn(2, 32, 64), numbers(POSITIVE)
    a[0, 0, :4] = b[0, 0, :4] = 1
    a[0, 1, :4] = 0
    x, y = upload(any_device, a), upload(any_device, b)
    assert getattr(ttnn, name)(x, y) is x
    near(any_device, x, IN_PLACE[name](a, b))
    with pytest.raises(EmulatorError, match=rf"ttnn\.{name}: the output .* does not fit"):
        getattr(ttnn, name)(upload(any_device, torch.ones(1, 64)), upload(any_device, torch.ones(32, 64)))


def test_three_operands(any_device):
    a, b, c = randn(2, 32, 64), randn(2, 32, 64), numbers(POSITIVE)
    x, y, z = (upload(any_device, t) for t in (a, b, c))
    for computed, exact in (
        (ttnn.addcmul(x, y, z, value=0.5), torch.addcmul(a, b, c, value=0.5)),
        (ttnn.addcdiv(x, y, z, value=0.5), torch.addcdiv(a, b, c, value=0.5)),
        (ttnn.lerp(x, y, 0.25), torch.lerp(a, b, 0.25)),
        (ttnn.lerp(x, y, z), torch.lerp(a, b, c)),
        (ttnn.mac(x, y, z), a * b + c),
        (ttnn.mac(x, 2.0, z), a * 2 + c),
        (ttnn.snake_beta(x, y, z), a + torch.sin(b * a) ** 2 / c),
        (ttnn.where(ttnn.gtz(x), y, z), torch.where(a > 0, b, c)),
        (ttnn.where(ttnn.gtz(x), 1.5, z), torch.where(a > 0, torch.tensor(1.5), c)),
        (ttnn.where(x, 1.5, -2.0), torch.where(a != 0, 1.5, -2.0)),
        (ttnn.clamp(x, -0.5, 0.5), a.clamp(-0.5, 0.5)),
        (ttnn.clamp(x, max=y), torch.minimum(a, b)),
        (ttnn.clip(x, min=0.25), a.clamp(min=0.25)),
        (ttnn.addalpha(x, y, 0.5), a + 0.5 * b),
        (ttnn.subalpha(x, y, 0.5), a - 0.5 * b),
        (ttnn.polyval(x, [2.0, -1.0, 0.5]), 2 * a**2 - a + 0.5),
        (
            ttnn.outer(upload(any_device, a[0, :1]), upload(any_device, b[0, :1])),
            torch.outer(a[0, 0], b[0, 0])[None, None],
        ),
        (ttnn.prelu(x, 0.25), torch.where(a >= 0, a, a / 4)),
        (ttnn.bias_gelu(x, y), F.gelu(a + b)),
        (ttnn.glu(x), F.glu(a)),
        (ttnn.reglu(x), a[..., :32] * F.relu(a[..., 32:])),
        (ttnn.geglu(x), a[..., :32] * F.gelu(a[..., 32:])),
        (ttnn.swiglu(x), a[..., :32] * F.silu(a[..., 32:])),
        (ttnn.unary_chain(x, [ttnn.UnaryWithParam(ttnn.UnaryOpType.RELU), ttnn.UnaryOpType.SQRT]), a.relu().sqrt()),
    ):
        near(any_device, computed, exact)
    assert torch.equal(ttnn.to_torch(ttnn.isclose(x, x)), torch.ones_like(ttnn.to_torch(x)))


def test_a_fused_multiply_and_add_rounds_once(device):
    a = torch.full((32, 32), 1 + 2**-7)
    x = upload(device, a)
    once = ttnn.to_torch(ttnn.mac(x, x, upload(device, -a))).float()[0, 0]
    assert once == torch.tensor((1 + 2**-7) ** 2 - (1 + 2**-7)).bfloat16()
    twice = ttnn.to_torch(ttnn.subtract(ttnn.multiply(x, x), x)).float()[0, 0]
    assert once != twice


@pytest.mark.parametrize("name", ["sin", "floor", "elu", "leaky_relu", "softplus", "isnan"])
def test_functions_of_floating_point_refuse_integers(any_device, name):
    x = upload(any_device, torch.ones(32, 32), ttnn.int32)
    arguments = UNARY[name][1]
    with pytest.raises(EmulatorError, match=rf"ttnn\.{name}: input_tensor is DataType.INT32; this op takes floating"):
        getattr(ttnn, name)(x, *arguments)


def test_approximations_are_coarser_and_not_far(any_device):
    x = numbers(POSITIVE)
    a = upload(any_device, x)
    assert torch.equal(ttnn.to_torch(ttnn.sqrt(a, fast_and_approximate_mode=True)), ttnn.to_torch(ttnn.sqrt(a)))
    for (
        computed,
        accurate,
        exact,
    ) in (  # but for that of the square root, which leaves out the guard of negative numbers
        (ttnn.sigmoid(a, mode=ttnn.SigmoidMode.FastApproximate), ttnn.sigmoid(a), torch.sigmoid(x)),
        (ttnn.tanh(a, fast_and_approximate_mode=True), ttnn.tanh(a), torch.tanh(x)),
    ):
        near(any_device, computed, exact, 0.13)  # the sigmoid is 1 from 2 on
        off, near_off = ((ttnn.to_torch(t).float() - exact).abs().mean() for t in (computed, accurate))
        assert off == near_off if any_device.engine.name == "ideal" else off > near_off
    with pytest.raises(
        EmulatorError, match=r"ttnn\.sigmoid: mode=.*AccurateWithFastExp.* is not emulated, only Accurate"
    ):
        ttnn.sigmoid(a, mode=ttnn.SigmoidMode.AccurateWithFastExp)


def test_every_elementwise_op_is_in_a_table_here():
    from tttdebug.emulator.ops import binary, unary

    own = [name for name, op in OPS.items() if op.__module__ in (unary.__name__, binary.__name__)]
    here = {*UNARY, *BINARY, *POSITIVE_FIRST, *INTEGER, *IN_PLACE}
    tried_apart = {"unary_chain", "bitwise_not", "isclose", "addalpha", "subalpha", "outer", "polyval", "prelu"}
    assert {name.removeprefix("ttnn.") for name in own} <= here | tried_apart
