# SPDX-License-Identifier: Apache-2.0
"""Placing, hooking and reading back on one device of the real ttnn."""

import numpy as np
import pytest
from described_tensors import describe

from tttdebug.backends import (
    describe_device,
    describe_topology,
    device_tensors,
    is_device,
    is_device_tensor,
    to_numpy,
    unreadable,
)
from tttdebug.errors import DeviceError
from tttdebug.modules import HardwareConfig
from tttdebug.modules.matmul_programs import Product, choose_matmul
from tttdebug.tracking.device_tensors import tensors_held_by
from tttdebug.tracking.discovery import discover
from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.op_tap import to_operation_class

FLOATS = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")
WEIGHTS = [
    pytest.param(preset, group, id=f"{preset}-{group}")
    for preset in ("bf16", "accuracy", "performance")
    for group in ("wqkv", "wo", "ff1_ff3", "ff2", "lm_head", "embedding", "norm", "kv_cache", "bias", "router")
]


def test_the_device_says_that_it_computes_nothing(device):
    said = describe_device(device)
    assert is_device(device)
    assert (said.kind, said.architecture, said.grid, said.mesh) == ("ttnn", "wormhole_b0", (8, 8), (1, 1))
    assert said.runs_on == "mock cluster"


def on(ttnn, device, array, dtype="bfloat16", layout="TILE_LAYOUT", memory=None):
    host = ttnn.Tensor(np.ascontiguousarray(array, np.float32)).to(getattr(ttnn, layout))
    cast = ttnn.to_dtype(host, dtype=getattr(ttnn, dtype))
    return cast.to(device, memory or ttnn.DRAM_MEMORY_CONFIG)


@pytest.mark.parametrize(("preset", "group"), WEIGHTS)
def test_a_weight_is_placed_in_the_format_that_the_hardware_config_chooses(ttnn, device, preset, group):
    dtype = getattr(HardwareConfig.preset(preset), group)
    tensor = on(ttnn, device, np.ones((1, 1, 256, 128)), dtype)
    assert describe(tensor) == {
        "shape": [1, 1, 256, 128],
        "dtype": dtype,
        "layout": "tile",
        "memory": "interleaved",
        "buffer": "dram",
        "shard": None,
        "mesh": "",
    }
    assert tensor.is_allocated()
    ttnn.deallocate(tensor)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_host_tensor_of_any_float_type_reads_back(ttnn, dtype):
    x = np.random.default_rng(0).integers(-3, 4, (1, 1, 48, 80)).astype(np.float32)  # exact in every format
    host = ttnn.to_dtype(ttnn.Tensor(x).to(ttnn.TILE_LAYOUT), dtype=getattr(ttnn, dtype))
    assert is_device_tensor(host)
    assert unreadable(host) is None
    assert np.array_equal(to_numpy(host), x)


@pytest.mark.parametrize("rows", [32, 128, 1024])
@pytest.mark.parametrize(("inner", "columns"), [(2048, 2048), (2560, 10240), (4096, 32000)])
@pytest.mark.parametrize("kernel", ["li_ff1_ff3", "li_qkv", "li_router"])
@pytest.mark.parametrize("in_l1", [False, True])
def test_every_matmul_program_that_is_chosen_is_taken(ttnn, device, rows, inner, columns, kernel, in_l1):
    settings = getattr(HardwareConfig.preset("accuracy"), kernel)
    choice = choose_matmul(Product(rows, inner, columns, "bfloat8_b"), settings, (8, 8), "by_size", in_l1)
    put = {"layout": ttnn.TILE_LAYOUT, "device": device}
    x = ttnn.empty((1, 1, rows, inner), dtype=ttnn.bfloat16, **put)
    weight = ttnn.empty((inner, columns), dtype=ttnn.bfloat8_b, **put)
    arguments = {"compute_kernel_config": settings.to_ttnn(ttnn)}
    if choice.program is not None:
        arguments["program_config"] = choice.program.to_ttnn(ttnn)
    if choice.memory != "DRAM, interleaved":
        kind = choice.memory.removeprefix("L1, ").replace(" ", "_").upper()
        arguments["memory_config"] = getattr(ttnn, f"L1_{kind}_MEMORY_CONFIG")
    out = ttnn.linear(x, weight, **arguments)
    assert list(out.shape) == [1, 1, rows, columns]
    assert describe(out)["buffer"] == ("dram" if choice.memory == "DRAM, interleaved" else "l1")
    for tensor in (x, weight, out):
        ttnn.deallocate(tensor)


def test_a_mock_clusters_values_are_not_to_be_judged(ttnn, device):
    tensor = on(ttnn, device, np.ones((32, 32)))
    assert unreadable(tensor) == "mock cluster"
    assert not to_numpy(tensor).any()  # ones went in: a mock cluster keeps nothing, hence the rule


def test_a_freed_tensor_is_never_read(ttnn, device):
    tensor = on(ttnn, device, np.ones((32, 32)))
    ttnn.deallocate(tensor)
    assert unreadable(tensor) == "freed before it could be read"
    for read in (to_numpy, device_tensors):
        with pytest.raises(DeviceError, match=r"\(32, 32\) was freed before it could be read"):
            read(tensor)


def test_nothing_is_read_while_a_trace_is_captured(ttnn, device):
    tensor = on(ttnn, device, np.ones((32, 32)))
    trace = ttnn.begin_trace_capture(device, cq_id=0)
    try:
        assert unreadable(tensor) == "a metal trace was being captured"
        with pytest.raises(DeviceError, match=r"cannot be read while .*read it after ttnn.end_trace_capture"):
            to_numpy(tensor)
    finally:
        ttnn.end_trace_capture(device, trace, cq_id=0)
        ttnn.release_trace(device, trace)
    assert unreadable(tensor) == "mock cluster"


def test_one_device_is_its_own_shard(ttnn, device):
    tensor = on(ttnn, device, np.ones((32, 32)))
    assert describe_topology(tensor) == ""
    assert len(device_tensors(tensor)) == 1


def test_hooks_hear_every_module_and_leave_no_trace(ttnn, device):
    from plain_modules import Network, on_device

    network = Network(device)
    bound = network.parts[0].prefill_forward
    heard = []

    def listen(boundary, output, seconds):
        heard.append((boundary, tuple(output.shape), output.is_allocated(), unreadable(output)))

    with PortTap({"mlp": network, "gate": network.parts[0], "up": network.parts[1]}, listen):
        out = network(on_device(np.ones((1, 1, 32, 64)), device))
    assert heard == [(name, (1, 1, 32, 64), True, "mock cluster") for name in ("gate", "up", "mlp")]
    assert out.is_allocated()
    assert network.parts[0].prefill_forward == bound
    assert "forward" not in vars(network)
    network(on_device(np.ones((1, 1, 32, 64)), device))
    assert len(heard) == 3


def test_hooks_are_gone_after_ttnn_refused_an_op(ttnn, device):
    from plain_modules import Network, on_device

    network = Network(device)
    with pytest.raises(RuntimeError, match="width=32 height=64"), PortTap({"mlp": network}, lambda *heard: None):
        network(on_device(np.ones((1, 1, 32, 32)), device))
    assert "forward" not in vars(network)


def test_discovery_finds_the_modules_and_reads_no_tensor(ttnn, device):
    from plain_modules import Network

    network = Network(device)
    ttnn.deallocate(network.parts[1].weight)  # to read it would end the process
    found = discover(network)
    assert {"parts.0", "parts.1"} <= {module.path for module in found.modules}


def test_every_op_is_heard_where_op_tracking_listens(ttnn, device):
    from ttnn.decorators import FastOperation

    heard = []

    def before(op):
        heard.append((op.name, [tuple(value.shape) for value in op.args if is_device_tensor(value)], op.engine))
        return op

    def after(op, output, plan, seconds):
        heard.append((op.name, tuple(output.shape), unreadable(output)))

    x, weight = on(ttnn, device, np.ones((1, 1, 32, 64))), on(ttnn, device, np.ones((64, 96)), "bfloat8_b")
    original = FastOperation.__call__
    with to_operation_class(FastOperation, before, after):
        ttnn.add(ttnn.linear(x, weight), 1.0)
    assert FastOperation.__call__ is original
    assert heard == [
        ("ttnn.linear", [(1, 1, 32, 64), (64, 96)], "ttnn"),
        ("ttnn.linear", (1, 1, 32, 96), "mock cluster"),
        ("ttnn.add", [(1, 1, 32, 96)], "ttnn"),
        ("ttnn.add", (1, 1, 32, 96), "mock cluster"),
    ]


def test_the_weights_of_a_port_are_found_without_being_read(ttnn, device):
    from plain_modules import Network

    network = Network(device)
    ttnn.deallocate(network.parts[1].weight)
    held = dict(tensors_held_by(network))
    assert [tuple(tensor.shape) for tensor in held.values()] == [(64, 64), (64, 64)]
    assert [unreadable(tensor) for tensor in held.values()] == ["mock cluster", "freed before it could be read"]
