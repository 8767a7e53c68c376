# SPDX-License-Identifier: Apache-2.0
"""Outputs that must not be read or judged: each is skipped with its reason and counted, and the run does not pass."""

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.backends import is_device_tensor
from tttdebug.backends.readback import IN_TRACE, MOCK
from tttdebug.emulator import ttnn
from tttdebug.tracking import comparer

STEPS = 2


@pytest.fixture(scope="module")
def reference():
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 96}
    return td.load_reference(tiny_llama(7, num_hidden_layers=1, vocab_size=80, **sizes))


@pytest.mark.parametrize("reason", [MOCK, IN_TRACE])
def test_what_cannot_be_judged_is_skipped_and_counted(reference, monkeypatch, reason):
    """What stands behind `unreadable`, a mock cluster or a trace of the real ttnn, is tested in tests/real_ttnn."""
    monkeypatch.setattr(comparer, "unreadable", lambda value: reason if is_device_tensor(value) else None)
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    run = td.track(port, reference, [[5, 17, 3, 9]], decode_steps=STEPS)
    assert not run.passed
    assert not run.failed
    assert run.frame.empty
    assert run.manifest.compared == 0
    assert {entry.reason for entry in run.manifest.skipped} == {reason}
    boundaries = 7 + 3  # a layer's five and its caches; embed, final_norm, logits
    assert len({entry.boundary for entry in run.manifest.skipped}) == boundaries
    assert len(run.manifest.skipped) >= boundaries * (1 + STEPS)


def test_what_came_before_a_trace_stays_compared(reference, monkeypatch):
    capturing = []
    monkeypatch.setattr(comparer, "unreadable", lambda value: IN_TRACE if capturing else None)
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    network = port.layers[0].feed_forward
    inside = network.forward

    def traced(x):
        capturing.append(True)
        return inside(x)

    monkeypatch.setattr(network, "forward", traced)
    run = td.track(port, reference, [[5, 17, 3, 9]])
    assert {entry.reason for entry in run.manifest.skipped} == {IN_TRACE}
    compared = set(run.frame["boundary"])
    assert {"embed", "L00.self_attn"} <= compared
    assert "L00.mlp" not in compared


def test_what_a_port_read_from_a_mock_cluster_by_itself_is_not_judged_either(reference, monkeypatch):
    """Its logits come as a torch tensor, which nobody can tell from any other: the run knows what it runs on."""
    from dataclasses import replace

    from tttdebug.backends import describe_device, to_torch
    from tttdebug.tracking import driving

    said = replace(describe_device(td.open_device("emulated")), runs_on=MOCK)
    for module in (comparer, driving):
        monkeypatch.setattr(module, "describe_device", lambda device: said)
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    inside = port.prefill
    monkeypatch.setattr(port, "prefill", lambda *call: to_torch(inside(*call)))
    run = td.track(port, reference, [[5, 17, 3, 9]])
    assert run.frame.empty
    assert {entry.reason for entry in run.manifest.skipped} == {MOCK}
    assert run.manifest.agreement == {}


def test_ops_on_a_mock_cluster_are_not_judged(monkeypatch):
    from tttdebug.tracking import op_comparison
    from tttdebug.tracking.op_comparison import read_arguments
    from tttdebug.tracking.op_tap import HeardOp

    device = td.open_device("emulated")
    x = ttnn.from_torch(torch.ones(32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    op = HeardOp("ttnn.tanh", (x,), {}, "ttnn", golden=torch.tanh)
    assert isinstance(read_arguments(op), tuple)
    monkeypatch.setattr(op_comparison, "unreadable", lambda value: MOCK)
    judged = read_arguments(op)
    assert (judged.status, judged.note) == ("unreadable", f"an input of shape [32, 32]: {MOCK}")


def test_weights_on_a_mock_cluster_are_not_audited(reference, monkeypatch):
    from tttdebug.errors import AuditError
    from tttdebug.tracking import weight_audit

    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    assert weight_audit.audit(port, reference).findings
    monkeypatch.setattr(weight_audit, "unreadable", lambda value: MOCK if is_device_tensor(value) else None)
    with pytest.raises(AuditError, match="lies on a mock cluster"):
        weight_audit.audit(port, reference)
