# SPDX-License-Identifier: Apache-2.0
"""The vector unit's multiply-add against plain integers; its functions against mathematics, tables, recordings."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.emulator.agreement import compare
from tttdebug.emulator.engines import vector_binary
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.elementwise import elementwise, on_vector_unit
from tttdebug.emulator.engines.vector_arithmetic import add, float_of, fma_in_passes, multiply, multiply_in_passes
from tttdebug.emulator.formats import BFLOAT16
from tttdebug.emulator.kernel import ELTWISE, ELTWISE_FP32, Arch
from tttdebug.emulator.plans import Activation
from tttdebug.emulator.recordings import load_recordings

FULL = Path(os.environ.get("TTTDEBUG_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
WORMHOLE, BLACKHOLE = Arch.WORMHOLE_B0, Arch.BLACKHOLE


def fma_in_integers(x: int, y: int, z: int) -> int | None:
    """x·y + z of three fp32 words on Wormhole, with plain integers; None where an operand is not finite."""
    (xe, xm), (ye, ym), (ze, zm) = (
        ((w >> 23) & 255, (w & 0x7FFFFF | 0x800000) if w >> 23 & 255 else 0) for w in (x, y, z)
    )
    if 255 in (xe, ye, ze):
        return None
    negative_product, negative_z = bool((x ^ y) >> 31), bool(z >> 31)
    exponent, product = xe + ye - 127, xm * ym
    product = product >> 20 | (product & 0xFFFFF != 0)
    if product and exponent >= 255:
        return (negative_product << 31) | 0x7F800000
    if not product or exponent < 0:
        return z if zm else 0
    larger = max(exponent, ze)

    def aligned(m: int, e: int) -> int:
        shifted = m >> (larger - e)
        return shifted | (shifted << (larger - e) != m) if shifted else 0

    terms = aligned(product, exponent), aligned(zm << 3, ze)
    total = terms[0] * (-1) ** negative_product + terms[1] * (-1) ** negative_z
    if total == 0:
        return 0
    size = abs(total)
    shift = size.bit_length() - 27
    larger += shift
    if larger >= 255:
        return ((total < 0) << 31) | 0x7F800000
    if larger < 0:
        return 0
    size = (size >> shift | size & 1) if shift > 0 else size << -shift
    word = (larger << 23) + (size >> 3 & 0x7FFFFF)
    word += (size & 7) + (word & 1) > 4
    return ((total < 0) << 31) | word if word >> 23 else 0


def word(bits):
    return float_of(torch.tensor([bits]))


def bits(x):
    return int(x.to(torch.float32).view(torch.int32).item()) & 0xFFFFFFFF


def near_words(low, high):
    significands = st.one_of(st.integers(0, 0x7FFFFF), st.sampled_from([0, 1, 2, 0x400000, 0x7FFFFE, 0x7FFFFF]))
    return st.builds(
        lambda sign, e, m: sign << 31 | e << 23 | m, st.integers(0, 1), st.integers(low, high), significands
    )


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.tuples(near_words(120, 134), near_words(120, 134), near_words(112, 142)),
        st.tuples(near_words(0, 254), near_words(0, 254), near_words(0, 254)),
        st.tuples(near_words(50, 80), near_words(45, 78), near_words(0, 6)),
    )
)
def test_the_multiply_add_is_that_of_plain_integers(operands):
    """Compiled for CPUs, and in torch's operations for any device."""
    for fma in (sfpu.fma, fma_in_passes):
        assert bits(fma(*map(word, operands))) == fma_in_integers(*operands)


@settings(max_examples=300)
@given(near_words(0, 254), near_words(0, 254))
def test_products_and_sums_are_multiply_adds(x, y):
    for product in (multiply, multiply_in_passes):
        assert bits(product(word(x), word(y))) == fma_in_integers(x, y, 0)
    assert bits(add(word(x), word(y))) == fma_in_integers(x, 0x3F800000, y)


@pytest.mark.parametrize(
    ("x", "y", "z", "result"),
    [
        (0x7F800000, 0x00000000, 0x3F800000, 0x7F800001),  # ∞·0
        (0xFF800000, 0x00000000, 0x3F800000, 0xFF800001),
        (0x7F800000, 0x3F800000, 0xFF800000, 0x7F800001),  # ∞ − ∞
        (0x3F800000, 0x3F800000, 0xFFC00000, 0xFF800001),  # a NaN keeps its sign
        (0x7F000000, 0x7F000000, 0xFF7FFFFF, 0x7F800000),  # the product overflows, whatever is added
        (0x7F800000, 0xBF800000, 0x3F800000, 0xFF800000),
        (0x00400000, 0x7F000000, 0x3F800000, 0x3F800000),  # a denormal is zero
        (0x00800000, 0x3F7FFFFF, 0x00000000, 0x00000000),
    ],
)
def test_the_multiply_add_of_special_values(x, y, z, result):
    for fma in (sfpu.fma, fma_in_passes):
        assert bits(fma(word(x), word(y), word(z))) == result


@pytest.mark.parametrize(
    ("x", "y", "result"),
    [
        (0x7F800000, 0x80000001, 0x7F800001),  # ∞ times a denormal, which is a positive zero
        (0xFF800000, 0x00000000, 0xFF800001),
        (0xFFC00000, 0x3F800000, 0xFF800001),
        (0x7F000000, 0xFF000000, 0xFF800000),
        (0x80000000, 0x3F800000, 0x00000000),
        (0x00800000, 0x3F7FFFFF, 0x00000000),
    ],
)
def test_the_product_of_special_values(x, y, result):
    for product in (multiply, multiply_in_passes):
        assert bits(product(word(x), word(y))) == result


MATHEMATICS = {
    "exp": torch.exp, "exp2": torch.exp2, "expm1": torch.expm1, "elu": F.elu, "celu": F.celu, "log": torch.log,
    "selu": F.selu, "log2": torch.log2, "log10": torch.log10, "log1p": torch.log1p, "reciprocal": torch.reciprocal,
    "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "sigmoid": torch.sigmoid, "silu": F.silu, "tanh": torch.tanh, "gelu": F.gelu, "erf": torch.erf, "erfc": torch.erfc,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softplus": F.softplus, "mish": F.mish,
    "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "softsign": F.softsign, "square": torch.square,
    "leaky_relu": F.leaky_relu, "log_sigmoid": F.logsigmoid, "hardmish": lambda x: x * (0.5 * x + 1).clamp(0, 1),
    "sqrt_fast": torch.sqrt, "rsqrt_fast": torch.rsqrt,
    "cbrt": lambda x: torch.copysign(x.abs() ** (1 / 3), x),
}  # fmt: skip
POSITIVE = {"sqrt_fast", "rsqrt_fast", "log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "log1p"}
# Absolute errors where the kernel itself is coarser than its format: bfloat16 Dest, fp32 Dest.
COARSE = {
    "log_sigmoid": (2**-5, 0.02),
    "erfc": (2**-7, 1e-4),
    "softplus": (2**-6, 5e-5),
    "hardsigmoid": (2**-8, 1e-7),
    "hardswish": (2**-5, 1e-6),
}


@pytest.mark.parametrize("arch", [WORMHOLE, BLACKHOLE])
@pytest.mark.parametrize("name", sorted(sfpu.ACCURATE))
def test_functions_are_near_the_mathematical_ones(name, arch):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4000, generator=generator) * 12 - 6
    x = x.abs() + 0.01 if name in POSITIVE else x
    for fp32_dest, argument in ((False, x.bfloat16()), (True, x)):
        exact = MATHEMATICS[name](argument.double())
        computed = elementwise(argument, Activation(name), fp32_dest=fp32_dest, arch=arch).double()
        if name in COARSE:
            distance, bound = (computed - exact).abs(), COARSE[name][fp32_dest]
        elif name in ("gelu", "gelu_tanh", "mish", "tan", "sin", "cos"):  # zeros inside the range
            distance = (computed - exact).abs() / exact.abs().clamp(min=2.0**-4)
            bound = 3e-5 if fp32_dest else 2.0**-4
        else:
            distance = (computed - exact).abs() / exact.abs().clamp(min=2.0**-20)
            bound = 4e-6 if fp32_dest else 2.0**-7
        assert distance.max() < bound, (fp32_dest, argument[distance.argmax()])


TABLE = """
3F80 402E 4033 3F80 3F80 3F80 3F3B 3F3B 3F43 3F57 0000
BF80 3EBD 3EC1 BF80 7F80 7F80 3E8A BE8A BF43 BE22 7F80
3F00 3FD3 3FD6 4000 3FB5 3F35 3F1F 3E9F 3EEC 3EB1 BF31
4000 40ED 40EB 3F00 3F35 3FB5 3F62 3FE2 3F77 3FFA 3F31
C040 3D4C 3D50 BEAB 7F80 7F80 3D42 BE12 BF7E BB85 7F80
4120 46AC 46B1 3DCD 3EA2 404A 3F80 4120 3F80 4120 4013
4049 41B9 41BE 3EA3 3F10 3FE3 3F75 4041 3F7F 4049 3F92
42B0 7EF8 7EF5 3C3A 3DDA 4116 3F80 42B0 3F80 42B0 408F
"""
COLUMNS = ("exp", "exp approx", "reciprocal", "rsqrt", "sqrt", "sigmoid", "silu", "tanh", "gelu", "log")


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_bfloat16_functions_give_the_simulators_words(row):
    x, *expected = (int(h, 16) for h in row.split())
    argument = word(x << 16).bfloat16()
    for column, result in zip(COLUMNS, expected, strict=True):
        name, _, approx = column.partition(" ")
        packed = BFLOAT16.pack(elementwise(argument, Activation(name, approx=bool(approx)), fp32_dest=False))
        assert bits(packed) >> 16 == result, column


@pytest.mark.parametrize(
    ("name", "arch", "x", "result"),
    [
        ("exp", WORMHOLE, 0x3F800000, 0x402DF854),
        ("exp", WORMHOLE, 0xC0400000, 0x3D4BED86),
        ("sigmoid", WORMHOLE, 0x3F800000, 0x3F3B26A8),
        ("sigmoid", BLACKHOLE, 0x3F800000, 0x3F3B26A9),
        ("reciprocal", WORMHOLE, 0xC0400000, 0xBEAAAAAB),
    ],
)
def test_fp32_functions_give_the_simulators_words(name, arch, x, result):
    assert bits(elementwise(word(x), Activation(name), fp32_dest=True, arch=arch)) == result


@pytest.mark.parametrize("name", ["sqrt", "rsqrt"])
def test_the_roots_fast_mode_only_leaves_out_the_guard_of_negative_numbers(name):
    x = torch.tensor([4.0, 2.5, 1e30, 1e-30, math.inf])
    for fp32_dest in (False, True):
        fast, guarded = (elementwise(x, Activation(f), fp32_dest=fp32_dest) for f in (f"{name}_fast", name))
        assert torch.equal(fast, guarded)
    assert elementwise(torch.tensor([-4.0]), Activation(name), fp32_dest=True).isnan()
    assert not elementwise(torch.tensor([-4.0]), Activation(f"{name}_fast"), fp32_dest=True).isnan()


@pytest.mark.parametrize(("name", "error"), [("tanh", 0.02), ("sigmoid", 0.12), ("erf", 0.01)])
def test_approximate_functions_are_as_coarse_as_their_tables(name, error):
    x = torch.linspace(-6, 6, 2001).bfloat16()
    computed = elementwise(x, Activation(name, approx=True), fp32_dest=False).double()
    distance = (computed - MATHEMATICS[name](x.double())).abs().max()
    assert distance < error
    assert distance > 0.002


def test_both_chips_have_every_function():
    for approx in (False, True):
        assert sfpu.kernels(WORMHOLE, approx=approx).keys() == sfpu.kernels(BLACKHOLE, approx=approx).keys()


def test_bfloat16_reciprocals_of_both_chips_are_correctly_rounded_and_equal():
    x = torch.arange(0x3F80, 0x4000, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    exact = (1 / x.double()).float().bfloat16()
    for arch in (WORMHOLE, BLACKHOLE):
        assert torch.equal(elementwise(x, Activation("reciprocal"), fp32_dest=False, arch=arch), exact)


@pytest.mark.parametrize(
    ("function", "parameters", "exact"),
    [
        ("elu", (0.5,), lambda x: F.elu(x, 0.5)),
        ("celu", (2.0,), lambda x: F.celu(x, 2.0)),
        ("leaky_relu", (0.25,), lambda x: F.leaky_relu(x, 0.25)),
        ("softplus", (2.0, 20.0), lambda x: F.softplus(x, 2.0, 20.0)),
        ("selu", (1.5, 2.0), lambda x: 1.5 * F.elu(x, 2.0)),
    ],
)
def test_parameters_reach_the_kernel(function, parameters, exact):
    x = torch.linspace(-4, 4, 801)
    computed = elementwise(x, Activation(function, parameters=parameters), fp32_dest=True)
    assert (computed.double() - exact(x.double())).abs().max() < 3e-5


def test_functions_of_special_values():
    inf, nan = math.inf, math.nan
    x = torch.tensor([inf, -inf, nan, 0.0, -0.0, 1e-40])
    expected = {
        "exp": [inf, 0, nan, 1, 1, 1],
        "reciprocal": [0, -0.0, None, inf, -inf, inf],
        "sqrt": [inf, nan, nan, 0, -0.0, None],
        "log": [inf, nan, nan, -inf, -inf, -inf],
        "log1p": [inf, nan, nan, 0, 0, 0],
        "expm1": [inf, -1, nan, 0, 0, 0],
        "tanh": [1, -1, nan, 0, -0.0, None],
        "exp2": [inf, 0, nan, 1, 1, 1],
    }
    for name, values in expected.items():
        computed = elementwise(x, Activation(name), fp32_dest=True)
        for argument, value, wanted in zip(x.tolist(), computed.tolist(), values, strict=True):
            if wanted is not None:
                assert value == wanted or (math.isnan(value) and math.isnan(wanted)), (name, argument, value)


binary_words = st.integers(0, 0xFFFF).map(lambda b: word(b << 16)).filter(lambda x: bool(x.isfinite().all()))


@settings(max_examples=200)
@given(binary_words, binary_words)
def test_operations_on_two_bfloat16_round_once_to_even(a, b):
    table = on_vector_unit(WORMHOLE)
    for name, exact in (("add", a + b), ("subtract", a - b), ("multiply", a * b)):
        if all(v == 0 or v.abs() > 2.0**-110 for v in (a, b, exact)):
            assert bits(table[name](a, b, ELTWISE) + 0.0) == bits(exact.bfloat16() + 0.0), name
    for name, exact in (("maximum", torch.maximum(a, b)), ("minimum", torch.minimum(a, b))):
        assert table.get(name) is None or table[name](a, b, ELTWISE) == exact


@settings(max_examples=200)
@given(*[st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)] * 2)
def test_fp32_quotients_are_within_one_ulp(a, b):
    for arch in (WORMHOLE, BLACKHOLE):
        if b == 0 or abs(a) < 2.0**-60 or abs(b) < 2.0**-60:
            continue
        computed = on_vector_unit(arch)["divide"](torch.tensor([a]), torch.tensor([b]), ELTWISE_FP32).item()
        assert abs(computed - a / b) <= abs(a / b) * 2.0**-23


def test_quotients_of_zeros_and_infinities():
    a = torch.tensor([1.0, -1.0, 0.0, math.inf, 1.0])
    b = torch.tensor([0.0, 0.0, 0.0, 2.0, math.inf])
    for kernel in (ELTWISE, ELTWISE_FP32):
        computed = on_vector_unit(WORMHOLE)["divide"](a, b, kernel)
        assert computed[[0, 1, 3, 4]].tolist() == [math.inf, -math.inf, math.inf, 0.0]
        assert computed[2].isnan()


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-20, 2.0**20, width=32), st.floats(-5, 5, width=32, allow_subnormal=False))
def test_powers_are_near_the_mathematical_ones(a, b):
    for dtype, fp32_dest, bound in ((torch.bfloat16, False, 2.0**-6), (torch.float32, True, 2.0**-20)):
        x, y = torch.tensor([a]).to(dtype), torch.tensor([b]).to(dtype)
        exact = x.double().pow(y.double()).item()
        computed = vector_binary.power(x.float(), y.float(), fp32_dest, WORMHOLE).item()
        assert abs(computed - exact) <= bound * exact


def test_powers_of_zero_and_of_negative_numbers():
    a = torch.tensor([-2.0, -2.0, -2.0, 0.0, 0.0, 3.0, -0.0])
    b = torch.tensor([3.0, 2.0, 0.5, 2.0, 0.0, 0.0, 3.0])
    for fp32_dest in (False, True):
        computed = vector_binary.power(a, b, fp32_dest, WORMHOLE).float().tolist()
        assert computed[2] != computed[2] or computed[2] == math.inf  # a bfloat16 has no NaN
        wanted = [-8.0, 4.0, 0.0, 1.0, 1.0, 0.0]
        assert computed[:2] + computed[3:] == pytest.approx(wanted, rel=2.0**-7)


def test_extrema_order_by_sign_and_size():
    inf, nan = math.inf, math.nan
    a, b = torch.tensor([1.0, -0.0, nan, -inf, 0.0]), torch.tensor([2.0, 0.0, inf, 5.0, -1.0])
    largest = vector_binary.maximum(a, b, True, WORMHOLE)
    least = vector_binary.minimum(a, b, True, WORMHOLE)
    assert largest[[0, 3, 4]].tolist() == [2.0, 5.0, 0.0]
    assert least[[0, 2, 3, 4]].tolist() == [1.0, inf, -inf, -1.0]
    assert largest[2].isnan()
    assert not largest[1].signbit()
    assert least[1].signbit()


@pytest.mark.skipif(not (FULL / "unary.npz").exists(), reason="no folder of recordings; TTTDEBUG_GOLDEN names one")
def test_every_recorded_function_gives_the_chips_bits():
    """All bfloat16 arguments, and samples in fp32."""
    seen = 0
    for recording in load_recordings(FULL, "unary"):
        name, x = recording.op.removesuffix("_approx"), recording.inputs["x"]
        function = Activation(name, approx=name != recording.op)
        dest = elementwise(x, function, fp32_dest=x.dtype == torch.float32)
        packed = dest if x.dtype == torch.float32 else BFLOAT16.pack(dest)
        assert compare(packed, recording.output).equal == 1, recording.name
        seen += 1
    assert seen >= 31
