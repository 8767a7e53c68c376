# SPDX-License-Identifier: Apache-2.0
"""What ttnn aborts on is an error here that names the op, the argument, the value and the rule."""

import pytest
import torch
from device_tensors import upload

from tttdebug.emulator import EmulatorError, open_device, ttnn

NO_FIDELITY = ttnn.WormholeComputeKernelConfig()


def zeros(device, *shape, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT):
    return upload(device, torch.zeros(*shape), dtype, layout)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a, b: ttnn.matmul(a, b), r"ttnn\.matmul: \[32, 64\] @ \[32, 64\] do not multiply; the last size"),
        (lambda a, b: ttnn.linear(a, b), r"ttnn\.linear: \[32, 64\] @ \[32, 64\] do not multiply"),
        (lambda a, b: ttnn.linear(a, b, transpose_b=True, bias=a), r"ttnn\.linear: bias has Shape\(\[32, 64\]\)"),
        (
            lambda a, b: ttnn.experimental.minimal_matmul(a, b),
            r"minimal_matmul: \[32, 64\] @ \[32, 64\] do not multiply",
        ),
        (
            lambda a, b: ttnn.add(a, b[:, :3]),
            r"ttnn\.add: shapes Shape\(\[32, 64\]\) and Shape\(\[32, 3\]\) do not broad",
        ),
        (lambda a, b: ttnn.eq(a, b[:7]), r"ttnn\.eq: shapes .* do not broadcast"),
        (lambda a, b: ttnn.where(a, b[:7], 1.0), r"ttnn\.where: predicate .* does not broadcast"),
        (lambda a, b: ttnn.rms_norm(a, weight=b[:1, :32]), r"ttnn\.rms_norm: weight has Shape\(\[1, 32\]\), the input"),
        (lambda a, b: ttnn.concat([a, b[:, :3]], 0), r"ttnn\.concat: .* differ outside dimension 0"),
        (lambda a, b: ttnn.reshape(a, (7, 7)), r"ttnn\.reshape: Shape\(\[32, 64\]\) has 2048 elements, \[7, 7\]"),
        (lambda a, b: ttnn.slice(a, [0, 0], [40, 64]), r"ttnn\.slice: 0:40 leaves dimension 0"),
        (lambda a, b: ttnn.copy(a, b[:8]), r"ttnn\.copy: input_a .* does not fit input_b"),
        (lambda a, b: ttnn.add(a, b, output_tensor=b[:8]), r"cannot take \[32, 64\]"),
    ],
)
def test_shapes_that_do_not_fit(device, call, says):
    with pytest.raises(EmulatorError, match=says):
        call(zeros(device, 32, 64), zeros(device, 32, 64))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: ttnn.matmul(t("int32"), t("bfloat16")), r"ttnn\.matmul: input_tensor_a is DataType\.INT32; this op"),
        (
            lambda t: ttnn.add(t("int32"), t("bfloat16")),
            r"ttnn\.add: DataType\.INT32 and DataType\.BFLOAT16 do not mix",
        ),
        (lambda t: ttnn.rms_norm(t("uint32")), r"ttnn\.rms_norm: input_tensor is DataType\.UINT32; .*typecast"),
        (
            lambda t: ttnn.rms_norm(t("bfloat4_b")),
            r"input_tensor is DataType\.BFLOAT4_B; the chip's kernel takes BFLOAT16",
        ),
        (lambda t: ttnn.softmax(t("bfloat4_b")), r"ttnn\.softmax: input_tensor is DataType\.BFLOAT4_B"),
        (lambda t: ttnn.exp(t("int32")), r"ttnn\.exp: input_tensor is DataType\.INT32; this op takes floating-point"),
        (lambda t: ttnn.sort(t("bfloat8_b")), r"ttnn\.sort: input_tensor is DataType\.BFLOAT8_B; .* BFLOAT16, FLOAT32"),
        (lambda t: ttnn.cumsum(t("bfloat8_b"), 0), r"ttnn\.cumsum: input is DataType\.BFLOAT8_B"),
        (lambda t: ttnn.topk(t("bfloat4_b"), 8), r"ttnn\.topk: input_tensor is DataType\.BFLOAT4_B"),
        (lambda t: ttnn.gather(t("bfloat16"), 0, t("uint8")), r"ttnn\.gather: index is DataType\.UINT8; .* UINT16"),
        (lambda t: ttnn.bitwise_and(t("uint8"), t("uint8")), r"ttnn\.bitwise_and: input_tensor_a is DataType\.UINT8"),
        (
            lambda t: ttnn.embedding(t("uint32"), t("bfloat8_b")),
            r"ttnn\.embedding: weight is DataType\.BFLOAT8_B; tables",
        ),
        (
            lambda t: ttnn.embedding(t("float32"), t("bfloat16")),
            r"ttnn\.embedding: input_tensor is DataType\.FLOAT32; ids",
        ),
        (lambda t: ttnn.typecast(t("bfloat16"), "float32"), r"ttnn\.typecast: dtype='float32' is not a ttnn data type"),
    ],
)
def test_data_types_that_an_op_does_not_take(device, call, says):
    with pytest.raises(EmulatorError, match=says):
        call(lambda name: zeros(device, 32, 64, dtype=getattr(ttnn, name)))


ATTENTION = {
    "scaled_dot_product_attention": lambda f, q, k: f(q, k, k),
    "scaled_dot_product_attention_decode": lambda f, q, k: f(q, k, k, cur_pos=[0]),
    "flash_mla_prefill": lambda f, q, k: f(q, k, 32),
}


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_attention_takes_no_fp32(device, name):
    q, k = zeros(device, 1, 1, 32, 64), zeros(device, 1, 1, 32, 64, dtype=ttnn.float32)
    with pytest.raises(EmulatorError, match=rf"{name}: input_tensor_k is DataType\.FLOAT32; .* BFLOAT16, BFLOAT8_B"):
        ATTENTION[name](getattr(ttnn.transformer, name), q, k)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("linear", lambda f, a, c: f(a, a, transpose_b=True, compute_kernel_config=c)),
        ("matmul", lambda f, a, c: f(a, a, transpose_b=True, compute_kernel_config=c)),
        ("rms_norm", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("layer_norm", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("softmax", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("softmax_in_place", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("scale_mask_softmax", lambda f, a, c: f(a, 1.0, compute_kernel_config=c)),
        ("sum", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("var", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("rms_norm_pre_all_gather", lambda f, a, c: f(a, compute_kernel_config=c)),
        ("addmm", lambda f, a, c: f(a, a, ttnn.transpose(a, 0, 1), compute_kernel_config=c)),
    ],
)
def test_a_config_object_without_a_math_fidelity(device, name, call):
    function = getattr(ttnn, name)
    op = "matmul" if name == "addmm" else name
    with pytest.raises(
        EmulatorError, match=rf"ttnn\.{op}: compute_kernel_config has math_fidelity=.*Invalid.*set math_fi"
    ):
        call(function, zeros(device, 32, 64), NO_FIDELITY)
    with pytest.raises(EmulatorError, match=rf"ttnn\.{op}: compute_kernel_config='HiFi4' is not a Wormhole"):
        call(function, zeros(device, 32, 64), "HiFi4")


@pytest.mark.parametrize(
    "call",
    [
        lambda x, c: ttnn.to_memory_config(x, c),
        lambda x, c: ttnn.interleaved_to_sharded(x, c),
        lambda x, c: ttnn.to_device(x.cpu(), x.device(), c),
        lambda x, c: ttnn.from_torch(torch.zeros(32, 64), ttnn.bfloat16, device=x.device(), memory_config=c),
    ],
)
@pytest.mark.parametrize("layout", ["HEIGHT", "WIDTH", "BLOCK"])
def test_a_missing_shard_spec(device, call, layout):
    config = getattr(ttnn, f"L1_{layout}_SHARDED_MEMORY_CONFIG")
    with pytest.raises(EmulatorError, match=rf"ttnn\.\w+: memory_config is {layout}_SHARDED without a shard_spec"):
        call(zeros(device, 32, 64), config)


OPS_OF_TWO = [
    lambda a, b: ttnn.add(a, b),
    lambda a, b: ttnn.add_(a, b),
    lambda a, b: ttnn.eq(a, b),
    lambda a, b: ttnn.where(a, b, 1.0),
    lambda a, b: ttnn.addcmul(a, a, b),
    lambda a, b: ttnn.linear(a, b, transpose_b=True),
    lambda a, b: ttnn.concat([a, b], 0),
    lambda a, b: ttnn.stack([a, b], 0),
    lambda a, b: ttnn.rms_norm(a, residual_input_tensor=b),
    lambda a, b: ttnn.copy(a, b),
]


@pytest.mark.parametrize("call", OPS_OF_TWO)
def test_tensors_of_another_device(device, call):
    here, there = zeros(device, 32, 64), zeros(open_device("fast"), 32, 64)
    with pytest.raises(EmulatorError, match=r"ttnn\.\w+: .*(different devices|differ in)"):
        call(here, there)


@pytest.mark.parametrize("call", OPS_OF_TWO)
def test_use_after_deallocate(device, call):
    here, freed = zeros(device, 32, 64), zeros(device, 32, 64)
    ttnn.deallocate(freed)
    with pytest.raises(EmulatorError, match="is used after deallocate"):
        call(here, freed)
    with pytest.raises(EmulatorError, match="is used after deallocate"):
        call(freed, here)


def test_layouts_that_a_kernel_does_not_take(device):
    rows = zeros(device, 32, 64, layout=ttnn.ROW_MAJOR_LAYOUT)
    for call, argument in (
        (lambda: ttnn.linear(rows, rows), "input_tensor_a"),
        (lambda: ttnn.softmax(rows), "input_tensor"),
        (lambda: ttnn.rms_norm(rows), "input_tensor"),
        (lambda: ttnn.topk(rows, 8), "input_tensor"),
        (lambda: ttnn.sort(rows), "input_tensor"),
    ):
        with pytest.raises(EmulatorError, match=rf"{argument} is in Layout\.ROW_MAJOR; this op takes TILE_LAYOUT"):
            call()
