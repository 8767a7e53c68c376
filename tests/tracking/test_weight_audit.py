# SPDX-License-Identifier: Apache-2.0
"""The weight audit on ports that are really broken: each fault is named as what it is, and a sound port has none."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_llamas import tiny_llama
from typer.testing import CliRunner

import tttdebug as td
from tttdebug.cli import app
from tttdebug.emulator import ttnn
from tttdebug.emulator.drop_in import install
from tttdebug.emulator.formats import FORMATS
from tttdebug.errors import AuditError
from tttdebug.modules.placement import interleave_heads, split_heads_in_halves

SHAPE = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "intermediate_size": 160,
}
LAYER = "model.layers.1."
Q, K, OUT = (f"{LAYER}self_attn.{part}_proj.weight" for part in "qko")
GATE, UP, DOWN = (f"{LAYER}mlp.{part}_proj.weight" for part in ("gate", "up", "down"))


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **SHAPE))


def faults(reference, changes, precision="accuracy"):
    """What the audit says of a port that was built from other weights than the reference's."""
    weights = dict(reference.model.state_dict()) | changes
    audit = td.audit(td.build_model(reference, td.open_device("emulated"), precision, weights=weights), reference)
    assert not audit.passed
    return {fault.source: fault for fault in audit.faults}


@pytest.mark.parametrize("precision", ["accuracy", "performance", "bf16"])
@pytest.mark.parametrize("engine", ["fast", "ideal", "exact"])
def test_a_sound_port_has_no_fault(reference, precision, engine):
    port = td.build_model(reference, td.open_device("emulated", engine=engine), precision)
    for quick in (False, True):
        audit = td.audit(port, reference, quick=quick)
        assert audit.passed, audit.faults
        assert {finding.source for finding in audit.findings} == set(reference.model.state_dict())
    expected = "equal" if engine == "ideal" else "quantised as declared"
    assert {finding.status for finding in td.audit(port, reference).findings} == {expected}


def test_gate_and_up_exchanged(reference):
    state = reference.model.state_dict()
    found = faults(reference, {GATE: state[UP], UP: state[GATE]})
    assert {name: fault.status for name, fault in found.items()} == {GATE: "permuted", UP: "permuted"}
    assert found[GATE].detail == f"exchanged: holds {UP}"
    assert found[GATE].path == "layers.1.feed_forward.w1"


def test_tensors_exchanged_on_the_device_after_the_port_was_built(reference):
    port = td.build_model(reference, td.open_device("emulated"))
    feed_forward = port.layers[2].feed_forward
    feed_forward.w1, feed_forward.w3 = feed_forward.w3, feed_forward.w1
    for quick in (False, True):
        assert [fault.status for fault in td.audit(port, reference, quick=quick).faults] == ["permuted"] * 2


@pytest.mark.parametrize("name", [K, DOWN, f"{LAYER}input_layernorm.weight"])
def test_another_layers_weight_is_stale(reference, name):
    other = name.replace("layers.1", "layers.0")
    found = faults(reference, {name: reference.model.state_dict()[other]})
    assert list(found) == [name]
    assert (found[name].status, found[name].detail) == ("stale", f"holds layer 0's: {other}")


def test_a_square_weight_transposed(reference):
    found = faults(reference, {OUT: reference.model.state_dict()[OUT].T})
    assert {name: fault.status for name, fault in found.items()} == {OUT: "transposed"}


def test_rotary_orders(reference):
    q = reference.model.state_dict()[Q]
    missing = faults(reference, {Q: split_heads_in_halves(q, 32, 32)})[Q]
    assert missing.status == "permuted"
    assert "half-split rotary order" in missing.detail
    twice = faults(reference, {Q: interleave_heads(q, 32, 32)})[Q]
    assert twice.status == "permuted"
    assert "applied twice" in twice.detail


def test_heads_and_shards_in_another_order(reference):
    state = reference.model.state_dict()
    turned = state[Q].view(3, 32, 96)[[1, 2, 0]].reshape(96, 96)
    heads = faults(reference, {Q: turned})[Q]
    assert (heads.status, heads.detail) == ("permuted", "heads along the output dimension are in the order 1, 2, 0")
    shards = faults(reference, {DOWN: torch.cat(state[DOWN].chunk(2, 1)[::-1], 1)})[DOWN]
    assert (shards.status, shards.detail) == ("permuted", "the 2 blocks along the input dimension are reversed")


def test_the_parts_of_a_fused_weight_in_another_order():
    even = td.load_reference(tiny_llama(8, **SHAPE | {"num_key_value_heads": 3}))
    state = even.model.state_dict()
    value = K.replace("k_proj", "v_proj")
    found = faults(even, {K: split_heads_in_halves(state[value], 32, 32), value: interleave_heads(state[K], 32, 32)})
    assert {fault.status for fault in found.values()} == {"permuted"}
    assert "order wq|wv|wk" in found[K].detail


def test_a_scaled_weight(reference):
    fault = faults(reference, {DOWN: reference.model.state_dict()[DOWN] * 0.5})[DOWN]
    assert (fault.status, fault.detail) == ("scaled", "by 0.5")


def test_another_number_format_than_declared(reference):
    down = reference.model.state_dict()[DOWN]
    coarse = FORMATS["bfloat4_b"].quantise(down.T.contiguous()).T
    fault = faults(reference, {DOWN: coarse})[DOWN]
    assert (fault.status, fault.detail) == ("quantised otherwise", "holds bfloat4_b, declared is bfloat8_b")
    across = faults(reference, {DOWN: FORMATS["bfloat8_b"].quantise(down)})[DOWN]
    assert across.status == "quantised otherwise"
    assert "shared along the input dimension" in across.detail


def test_blocks_that_are_wrong(reference):
    down = reference.model.state_dict()[DOWN].clone()
    down[:, 64:96] = 0.0
    assert faults(reference, {DOWN: down})[DOWN].detail == "columns 64..95 are zeros, the rest is right"
    down[:, 64:96] = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))
    assert faults(reference, {DOWN: down})[DOWN].detail == "columns 64..95 are wrong, the rest is right"
    assert faults(reference, {DOWN: torch.zeros(96, 160)})[DOWN].detail == "all zeros"


def test_weights_that_nothing_explains(reference):
    torch.manual_seed(0)
    noise = faults(reference, {DOWN: torch.randn(96, 160)})[DOWN]
    assert noise.status == "different"
    assert noise.rel_l2 > 1
    assert "nearest" in noise.detail
    broken = reference.model.state_dict()[DOWN].clone()
    broken[3, 5] = torch.nan
    spoilt = faults(reference, {DOWN: broken})[DOWN]
    assert spoilt.status == "different"
    assert "inf or nan" in spoilt.detail


def test_a_weight_that_was_freed_or_taken_away_is_missing(reference):
    port = td.build_model(reference, td.open_device("emulated"))
    port.layers[0].attention.wo.deallocate()
    port.layers[1].feed_forward.w2 = None
    found = {fault.source: fault for fault in td.audit(port, reference).faults}
    assert {fault.status for fault in found.values()} == {"missing"}
    assert set(found) == {OUT.replace("layers.1", "layers.0"), DOWN}
    assert "freed" in found[OUT.replace("layers.1", "layers.0")].detail


def test_a_port_without_weights_is_an_error(reference):
    with pytest.raises(AuditError, match="no weight was found on the device in object"):
        td.audit(object(), replace(reference, model=torch.nn.Module()))


# ports that declare nothing


@pytest.fixture
def ports(monkeypatch):
    """Models written against ttnn alone, which know nothing of tttdebug."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "ports"))
    with install():
        import ttt_llama
        import ttt_qwen_style

        yield ttt_llama, ttt_qwen_style
    for name in ("ttt_llama", "ttt_qwen_style"):
        sys.modules.pop(name, None)


def audited(reference, built, change=lambda port: None):
    change(built)
    return td.audit(built, reference)


def statuses(audit):
    return {fault.source: fault.status for fault in audit.faults}


def test_foreign_ports_are_recognised_whatever_their_layout(reference, ports):
    for module in ports:
        audit = audited(reference, module.build(reference.model, td.open_device("emulated")))
        assert audit.passed, audit.faults
        assert {finding.source for finding in audit.findings} == set(reference.model.state_dict())
    fused = [f for f in audit.findings if f.path.endswith("wqkv")]
    assert all("interleaved" in finding.detail for finding in fused)


def padded_heads(columns, heads):
    """Columns of a projection to heads with zeros behind each head's, up to twice its size."""
    return torch.nn.functional.pad(columns.unflatten(1, (heads, -1)), (0, columns.shape[1] // heads)).flatten(1)


def test_heads_that_are_padded_are_recognised(reference, ports):
    port = ports[0].build(reference.model, td.open_device("emulated"))
    for layer in port.layers:
        config = layer.attention.config
        config.wqkv = padded_heads(config.wqkv, 5)  # three query heads, a key head and a value head
        config.wo = padded_heads(config.wo.T, 3).T.contiguous()
    audit = td.audit(port, reference)
    assert audit.passed, audit.faults
    assert {finding.source for finding in audit.findings} == set(reference.model.state_dict())


def exchanged(port):
    mlp = port.layers[1].feed_forward
    mlp.w1, mlp.w3 = mlp.w3, mlp.w1


def turned(port):
    config = port.layers[1].attention.config
    config.wo = config.wo.T.contiguous()


def stale(port):
    port.layers[1].attention.config.wqkv = port.layers[0].attention.config.wqkv


def scaled(port):
    port.layers[1].feed_forward.w2.source = port.layers[1].feed_forward.w2.source * 3


def coarse(port):
    weight = port.layers[1].feed_forward.w2
    weight.source = FORMATS["bfloat4_b"].quantise(weight.source)


def noise(port):
    weight = port.layers[1].feed_forward.w2
    weight.source = torch.randn(weight.source.shape, generator=torch.Generator().manual_seed(5))


def not_permuted(port):
    config = port.layers[1].attention.config
    config.wqkv = torch.cat([interleaved_back(config.wqkv[:, :96], 3), config.wqkv[:, 96:]], 1)


def interleaved_back(columns, heads):
    return split_heads_in_halves(columns.T.contiguous(), 96 // heads, 96 // heads).T.contiguous()


def heads_moved(port):
    config = port.layers[1].attention.config
    config.wqkv = torch.cat([config.wqkv[:, 32:96], config.wqkv[:, :32], config.wqkv[:, 96:]], 1)


def shortened(port):
    del port.layers[2].feed_forward.w2


VALUE = K.replace("k_proj", "v_proj")
BROKEN = {
    exchanged: {GATE: "permuted", UP: "permuted"},
    turned: {OUT: "transposed"},
    scaled: {DOWN: "scaled"},
    coarse: {DOWN: "quantised otherwise"},
    noise: {DOWN: "different"},
    not_permuted: {Q: "permuted", K: "permuted", VALUE: "permuted"},
    heads_moved: {Q: "permuted", K: "permuted", VALUE: "permuted"},
    shortened: {DOWN.replace("layers.1", "layers.2"): "missing"},
}


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_foreign_ports_that_are_broken(reference, ports, change):
    audit = audited(reference, ports[0].build(reference.model, td.open_device("emulated")), change)
    assert statuses(audit) == BROKEN[change]


def test_a_foreign_port_with_a_stale_layer(reference, ports):
    audit = audited(reference, ports[0].build(reference.model, td.open_device("emulated")), stale)
    stale_ones = [fault for fault in audit.faults if fault.status == "stale"]
    assert {fault.path for fault in stale_ones} == {"layers.1.attention.wqkv"}
    assert all("layer 0's" in fault.detail for fault in stale_ones)
    assert {source for source, status in statuses(audit).items() if status == "missing"} == {Q, K, VALUE}


class OnAMesh:
    """Weights spread over two devices: columns of the fused projection interleaved as [q|k|v] of each device."""

    def __init__(self, state, device):
        parts = {part: state[f"{LAYER}self_attn.{part}_proj.weight"].chunk(2) for part in "qkv"}
        first, second = (torch.cat([parts[part][i] for part in "qkv"]).T for i in (0, 1))
        down = state[DOWN].T
        self.layers = {"1": {}}
        here = self.layers["1"]
        here["wqkv"] = self.spread(device, torch.cat([first, second], 1), 1)
        here["w2"] = self.spread(device, down, 0)

    @staticmethod
    def spread(device, values, dim):
        mapper = ttnn.ShardTensorToMesh(device, dim=dim)
        return ttnn.from_torch(values, ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device, mesh_mapper=mapper)


def test_weights_spread_over_a_mesh_are_recognised():
    even = td.load_reference(tiny_llama(9, **SHAPE | {"num_attention_heads": 4, "num_key_value_heads": 2}))
    port = OnAMesh(even.model.state_dict(), ttnn.open_mesh_device(ttnn.MeshShape(1, 2)))
    found = {finding.source: finding for finding in td.audit(port, even).findings}
    for name in (Q, K, VALUE, DOWN):
        assert found[name].status == "quantised as declared", found[name]
    assert found[Q].path == "layers.1.wqkv on device 1"


# the command


@pytest.fixture(scope="module")
def model_folder(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference.model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def broken_file(reference, tmp_path_factory):
    state = dict(reference.model.state_dict())
    state[GATE], state[UP] = state[UP], state[GATE]
    path = tmp_path_factory.mktemp("weights") / "broken.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


def test_the_command_says_what_is_wrong_and_exits_with_1(model_folder, broken_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    sound = CliRunner().invoke(app, ["audit", "--model", str(model_folder)])
    assert sound.exit_code == 0, sound.output
    assert "PASS" in sound.output
    broken = CliRunner().invoke(app, ["audit", "--model", str(model_folder), "--port-weights", str(broken_file)])
    assert broken.exit_code == 1
    assert "exchanged" in broken.output
    listed = CliRunner().invoke(app, ["audit", "--model", str(model_folder), "--all"])
    assert listed.output.count("quantised as declared") > 25


def test_a_run_says_first_that_the_weights_are_others(model_folder, broken_file, tmp_path):
    arguments = ["run", "--model", str(model_folder), "--port-weights", str(broken_file), "--token-ids", "5 17 3 40 8"]
    ran = CliRunner().invoke(app, [*arguments, "--decode-steps", "0", "--out", str(tmp_path / "run")])
    assert ran.exit_code == 1, ran.output
    assert "the port's weights" in next(line for line in ran.output.splitlines() if line.strip())
    kept = td.Run.load(tmp_path / "run").manifest.weights
    assert [fault["status"] for fault in kept["faults"]] == ["permuted", "permuted"]


def test_a_run_with_a_wrong_weight_does_not_pass_though_every_gate_holds(reference, model_folder, tmp_path):
    state = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    state[OUT] *= 1.01
    save_file(state, tmp_path / "scaled.safetensors")
    arguments = ["run", "--model", str(model_folder), "--port-weights", str(tmp_path / "scaled.safetensors")]
    arguments += ["--token-ids", "5 17 3 40 8", "--decode-steps", "0", "--out", str(tmp_path / "run")]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 1, ran.output
    said = f"no gate fails, but 1 weight of the port is not the checkpoint's, the first {OUT}"
    assert said in " ".join(ran.output.split())
    run = td.Run.load(tmp_path / "run")
    assert (run.failed, run.passed) == ([], False)
    gate = CliRunner().invoke(app, ["gate", str(tmp_path / "run")])
    assert gate.exit_code == 1
    assert "1 weight of the port is not the checkpoint's" in " ".join(gate.output.split())


def test_a_run_with_the_right_weights_says_nothing_of_them(model_folder, tmp_path):
    arguments = ["run", "--model", str(model_folder), "--token-ids", "5 17 3 40 8", "--decode-steps", "0"]
    ran = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.output
    assert "not the checkpoint's" not in ran.output
    kept = td.Run.load(tmp_path / "run").manifest.weights
    assert kept["sampled"] is True
    assert kept["faults"] == []
