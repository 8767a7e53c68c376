# SPDX-License-Identifier: Apache-2.0
"""Ops of the real ttnn inside tracked modules: heard in fast mode, with what they were given, and nothing left behind.

No golden is computed here: there is no torch, and a mock cluster holds no values.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.op_tracking import OpTracker, ops_recorded

CALL = SimpleNamespace(phase="prefill", step=0, users={0: None})


class Kept:
    """What a run's writer is asked to keep."""

    def __init__(self):
        self.ops, self.notes = [], []
        self.append_op, self.note = self.ops.append, self.notes.append

    def open_ops(self):
        assert not self.ops


def recorded(modules, run):
    kept = Kept()
    tap = PortTap(modules, lambda boundary, output, seconds: None)
    with tap, ops_recorded(OpTracker(kept, lambda: CALL, compare=False), tap):
        run()
    return kept


def test_each_op_inside_a_module_is_recorded_under_it(ttnn, device):
    from plain_modules import Network, on_device

    network = Network(device)
    modules = {"L00.mlp": network, "L00.gate": network.parts[0], "L00.up": network.parts[1]}
    assert ttnn.CONFIG.enable_fast_runtime_mode
    original = ttnn.decorators.FastOperation.__call__
    kept = recorded(modules, lambda: network(on_device(np.ones((1, 1, 32, 64)), device)))
    assert ttnn.decorators.FastOperation.__call__ is original
    inside = [(op.boundary, op.index, op.op) for op in kept.ops]
    assert inside[:2] == [("L00.gate", 0, "ttnn.linear"), ("L00.up", 0, "ttnn.linear")]
    assert ("L00.mlp", "ttnn.multiply") in [(boundary, name) for boundary, _, name in inside]
    linear = kept.ops[0]
    assert [(note.shape, note.dtype, note.layout, note.memory) for note in linear.inputs] == [
        ((1, 1, 32, 64), "BFLOAT16", "TILE", "DRAM interleaved"),
        ((64, 64), "BFLOAT8_B", "TILE", "DRAM interleaved"),
    ]
    assert linear.outputs[0].shape == (1, 1, 32, 64)
    assert linear.engine == "ttnn"


def test_how_an_op_was_told_to_run_is_recorded(ttnn, device):
    from plain_modules import on_device

    kernel = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2, packer_l1_acc=True)
    x = on_device(np.ones((1, 1, 32, 64)), device)
    weight = on_device(np.ones((64, 64)), device)

    class Module:
        def forward(self):
            return ttnn.linear(x, weight, compute_kernel_config=kernel, memory_config=ttnn.L1_MEMORY_CONFIG)

    module = Module()
    (op,) = recorded({"L00.mlp": module}, lambda: module.forward()).ops
    assert "math_fidelity=HiFi2" in op.compute_kernel_config
    assert "packer_l1_acc=True" in op.compute_kernel_config
    assert op.outputs[0].memory == "L1 interleaved"


def test_a_freed_input_is_noted_and_not_touched(ttnn, device):
    from plain_modules import on_device

    x = on_device(np.ones((1, 1, 32, 64)), device)

    class Module:
        def forward(self):
            y = ttnn.add(x, x)
            ttnn.deallocate(x)
            return y

    module = Module()
    ops = recorded({"L00.mlp": module}, lambda: module.forward()).ops
    assert ops[0].op == "ttnn.add"
    assert {note.memory for note in ops[0].inputs} == {"DRAM interleaved"}


def test_an_exception_leaves_the_package_as_it_was(ttnn, device):
    original = ttnn.decorators.FastOperation.__call__

    class Module:
        def forward(self):
            ttnn.linear("no tensor", 3)

    module = Module()
    with pytest.raises(TypeError):
        recorded({"L00.mlp": module}, lambda: module.forward())
    assert ttnn.decorators.FastOperation.__call__ is original
