# SPDX-License-Identifier: Apache-2.0
"""Ops inside tracked modules: each is recorded, under its module, with its settings and its own error."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_llamas import THREE_HEADS, tiny_llama
from typer.testing import CliRunner

import tttdebug as td
from tttdebug.cli import app
from tttdebug.emulator import ttnn
from tttdebug.emulator.device import ANY_DEVICE
from tttdebug.emulator.drop_in import install
from tttdebug.emulator.opening import DeviceOptions, device_options
from tttdebug.errors import RunError
from tttdebug.tracking.op_comparison import judge_op, read_arguments
from tttdebug.tracking.op_golden_of import collective_golden_of, golden_of
from tttdebug.tracking.op_record import COMPARED, GOLDEN_FAILED, NO_GOLDEN, SHAPE_MISMATCH, UNREADABLE
from tttdebug.tracking.op_tap import HeardOp, listening, to_operation_class

PROMPTS = [list(range(3, 40)), list(range(50, 90))]


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **THREE_HEADS))


def tracked(reference, engine="ideal", change=lambda port: None, **options):
    port = td.build_model(reference, td.open_device("emulated", engine=engine))
    change(port)
    return td.track(port, reference, PROMPTS, decode_steps=1, ops=True, **options)


@pytest.fixture(scope="module")
def ideal(reference, tmp_path_factory):
    return tracked(reference, out=tmp_path_factory.mktemp("ops") / "run")


def test_on_the_ideal_engine_every_op_of_a_llama_is_its_golden(ideal):
    assert set(ideal.ops["status"]) == {COMPARED}
    assert ideal.ops["rel_l2"].max() < 1e-6
    assert len(set(ideal.ops["op"])) > 15
    assert ideal.ops["nonfinite_port"].sum() == 0


def test_ops_are_nested_under_their_innermost_module_and_counted_within_a_call(ideal):
    mlp = ideal.ops.query("boundary == 'L01.mlp' and phase == 'decode'")
    assert list(mlp["op"]) == ["ttnn.linear", "ttnn.linear", "ttnn.multiply", "ttnn.linear"]
    assert list(mlp["index"]) == [0, 1, 2, 3]
    assert set(mlp["user"]) == {-1}  # one call holds both users
    assert set(ideal.ops.query("phase == 'prefill'")["user"]) == {0, 1}
    residuals = ideal.ops.query("boundary == 'L00.layer_out' and phase == 'decode'")
    assert list(residuals["op"]) == ["ttnn.add", "ttnn.add"]


def test_a_record_holds_shapes_types_memory_and_settings(ideal):
    op = next(op for op in ideal.op_records if op.boundary == "L00.mlp")
    weight = op.inputs[1]
    assert (weight.name, weight.shape, weight.dtype, weight.layout) == (
        "input_tensor_b",
        (96, 160),
        "BFLOAT8_B",
        "TILE",
    )
    assert weight.memory == "DRAM interleaved"
    assert op.outputs[0].shape == (1, 1, 64, 160)
    assert "math_fidelity=HiFi2" in op.compute_kernel_config
    assert op.plan.startswith("MatmulPlan(kernel=Kernel(fidelity=HiFi2")
    assert "in1=bfloat8_b" in op.plan
    cached = next(op for op in ideal.op_records if op.op == "ttnn.experimental.paged_update_cache")
    assert "height_sharded" in cached.inputs[1].memory


def test_recording_ops_changes_no_record_of_the_modules(reference, ideal):
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    without = td.track(port, reference, PROMPTS, decode_steps=1)
    columns = ["boundary", "pcc", "rel_l2", "verdict"]
    assert without.frame[columns].equals(ideal.frame[columns])
    assert without.ops.empty
    assert list(without.ops.columns) == list(ideal.ops.columns)


def test_an_op_at_low_fidelity_stands_out_by_its_own_error(reference):
    def lower(port):
        feed_forward = port.layers[1].feed_forward
        feed_forward.hw_config = feed_forward.hw_config.replace(
            li_ff2=replace(feed_forward.hw_config.li_ff2, math_fidelity="LoFi")
        )

    run = tracked(reference, "fast", lower)
    linear = run.ops.query("op == 'ttnn.linear' and phase == 'prefill'")
    worst = linear.loc[linear["rel_l2"].idxmax()]
    assert (worst["boundary"], worst["index"]) == ("L01.mlp", 3)
    assert worst["rel_l2"] > 2 * linear.query("boundary == 'L00.mlp'")["rel_l2"].max()
    assert worst["slope"] < 1  # what LoFi drops of an operand is cut, not rounded


def test_a_saved_run_loads_its_ops_as_they_were(ideal):
    loaded = td.Run.load(ideal.path)
    assert loaded.op_records == ideal.op_records
    assert loaded.manifest.ops == len(ideal.op_records) > 100


def unsealed(run):
    """The run without the digests of its files, as an earlier version wrote it."""
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in content.items() if name not in ("seals", "digest")}))


def test_a_run_cut_short_keeps_its_ops(reference, tmp_path):
    def break_last_norm(port):
        port.norm.forward = lambda x: 1 / 0

    with pytest.raises(ZeroDivisionError):
        tracked(reference, "ideal", break_last_norm, out=tmp_path / "run")
    lines = (tmp_path / "run" / "ops.jsonl").read_text()
    loaded = td.Run.load(tmp_path / "run")
    assert len(loaded.op_records) == lines.count("\n") > 20
    unsealed(tmp_path / "run")  # as a run is whose process was killed
    (tmp_path / "run" / "ops.jsonl").write_text(lines[:-30])
    assert len(td.Run.load(tmp_path / "run").op_records) == lines.count("\n") - 1


def test_damaged_op_files_are_named(ideal, tmp_path):
    ideal.save(tmp_path / "run")
    unsealed(tmp_path / "run")
    file = tmp_path / "run" / "ops.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match=r"ops.jsonl holds \d+ ops but the run made"):
        td.Run.load(tmp_path / "run").ops  # noqa: B018
    file.write_text(lines[0].replace('"boundary"', '"place"') + "".join(lines[1:]))
    with pytest.raises(RunError, match=r"ops.jsonl, line 1, is not a record"):
        td.Run.load(tmp_path / "run").ops  # noqa: B018


def test_ops_outside_every_tracked_module_are_counted_in_a_note(ideal):
    assert any("outside the tracked modules" in note for note in ideal.manifest.notes)


def test_everything_is_put_back_even_after_an_exception(reference):
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    port.norm.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        td.track(port, reference, PROMPTS, ops=True)
    assert ANY_DEVICE.observers == ANY_DEVICE.foretold == []


def test_show_prints_the_ops_of_a_boundary_worst_first(ideal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    shown = CliRunner().invoke(app, ["show", str(ideal.path), "--ops", "L00.self_attn", "--worst", "3"])
    assert shown.exit_code == 0, shown.output
    assert "3 of" in shown.output
    assert "L00.self_attn" in shown.output
    assert "L01" not in shown.output
    layer = CliRunner().invoke(app, ["show", str(ideal.path), "--ops", "L00", "--worst", "500"])
    assert {"L00.mlp", "L00.input_norm"} <= set(layer.output.split())
    missing = CliRunner().invoke(app, ["show", str(ideal.path), "--ops", "L00.mpl"])
    assert isinstance(missing.exception, RunError)
    assert "L00.mlp" in str(missing.exception)


def test_show_says_when_a_run_has_no_ops(reference, tmp_path):
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    td.track(port, reference, PROMPTS[:1], out=tmp_path / "run")
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "run"), "--ops"])
    assert isinstance(shown.exception, RunError)
    assert "--ops" in str(shown.exception)


def judged(run):
    """What an op is judged as, when `run` calls one."""
    found = []

    def before(op):
        return op, read_arguments(op)

    def after(token, output, plan, seconds):
        op, arguments = token
        found.append(judge_op(op, arguments, output) if isinstance(arguments, tuple) else arguments)

    with listening(before, after):
        run()
    return found


@pytest.fixture
def device():
    return td.open_device("emulated", engine="ideal")


def on(device, values, dtype=ttnn.bfloat16, **options):
    return ttnn.from_torch(values, dtype=dtype, layout=ttnn.TILE_LAYOUT, device=device, **options)


def test_an_op_without_golden_is_recorded_as_such(device):
    x = on(device, torch.rand(1, 1, 32, 32))
    (result,) = judged(lambda: ttnn.lgamma(x))
    assert result.status == NO_GOLDEN
    assert "ttnn.lgamma" in result.note


def test_a_call_that_the_golden_does_not_know_is_recorded_as_such(device):
    x = on(device, torch.rand(1, 1, 32, 32))
    (result,) = judged(lambda: ttnn.add(x, x, activations=[ttnn.UnaryWithParam(ttnn.UnaryOpType.ELU, 0.5)]))
    assert result.status == NO_GOLDEN
    assert "no golden" in result.note


def test_an_op_that_frees_or_overwrites_its_input_is_compared_with_what_it_had(device):
    cache = on(device, torch.randn(1, 1, 64, 32))
    rows = on(device, torch.randn(1, 1, 32, 32))
    (filled,) = judged(lambda: ttnn.fill_cache(cache, rows, 0, update_idx=32))
    assert (filled.status, filled.rel_l2) == (COMPARED, 0.0)
    x = on(device, torch.randn(1, 1, 32, 32))
    (added,) = judged(lambda: ttnn.add_(x, x))
    assert added.rel_l2 < 1e-6


def test_a_freed_tensor_is_never_read():
    class Freed:
        """A tensor whose memory is gone: on a card, reading it ends the process."""

        __module__ = "ttnn"
        shape = (1, 1, 32, 32)

        def is_allocated(self):
            return False

        def __getattr__(self, name):
            raise AssertionError(f"{name} of a freed tensor was read")

    Freed.__name__ = "Tensor"
    op = HeardOp("ttnn.silu", (Freed(),), {}, "ttnn")
    assert read_arguments(op).status == UNREADABLE
    alive = HeardOp("ttnn.silu", (torch.rand(4, 4),), {}, "ttnn")
    assert judge_op(alive, ((torch.rand(4, 4),), {}), Freed()).status == UNREADABLE


def test_a_golden_that_raises_is_recorded_and_not_passed_on(device):
    x = on(device, torch.rand(1, 1, 32, 32))
    op = HeardOp("ttnn.lgamma", (x,), {}, "ttnn", golden=lambda x: 1 / 0)
    result = judge_op(op, read_arguments(op), x)
    assert result.status == GOLDEN_FAILED
    assert "ZeroDivisionError" in result.note
    assert result.golden == "ttnn"


def test_a_golden_of_ttnns_that_raises_gives_way_to_ours_and_is_noted(device):
    x = on(device, torch.rand(1, 1, 32, 32))
    op = HeardOp("ttnn.identity", (x,), {}, "ttnn", golden=lambda x: 1 / 0)
    result = judge_op(op, read_arguments(op), x)
    assert (result.status, result.golden, result.rel_l2) == (COMPARED, "tttdebug", 0.0)
    assert "ttnn's golden raised ZeroDivisionError" in result.note
    own = HeardOp("ttnn.identity", (x,), {}, "ttnn", golden=lambda x: x + 1)
    assert judge_op(own, read_arguments(own), x).golden == "ttnn"


def test_the_ops_of_a_foreign_port_with_paged_caches_are_their_goldens(reference, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "ports"))
    with install(engine="ideal"):
        import drive_ttt_llama as driven

        port = driven.build(reference.model, td.open_device("emulated", engine="ideal"))
        how = {"prefill": driven.prefill, "decode": driven.decode}
        run = td.track(port, reference, PROMPTS[:1], decode_steps=2, ops=True, **how)
    for name in ("drive_ttt_llama", "ttt_llama"):
        sys.modules.pop(name, None)
    assert set(run.ops["status"]) == {COMPARED}
    assert run.ops["rel_l2"].max() < 1e-6
    paged = {"paged_fill_cache", "paged_update_cache", "rotary_embedding_llama", "nlp_concat_heads_decode"}
    assert paged <= {name.rpartition(".")[2] for name in run.ops["op"]}


def test_an_output_of_another_shape_is_recorded_with_both(device):
    x, y = on(device, torch.rand(1, 1, 32, 32)), on(device, torch.rand(1, 1, 32, 64))
    op = HeardOp("ttnn.silu", (x,), {}, "fast")
    result = judge_op(op, read_arguments(op), y)
    assert result.status == SHAPE_MISMATCH
    assert "[1, 1, 32, 64]" in result.note
    assert "[1, 1, 32, 32]" in result.note


def test_collectives_are_compared_over_all_devices():
    with device_options(DeviceOptions("ideal")):
        mesh = ttnn.open_mesh_device(ttnn.MeshShape(2, 2))
    values = torch.randn(1, 1, 32, 128)
    x = on(mesh, values, mesh_mapper=ttnn.ShardTensorToMesh(mesh, dim=3))

    def run():
        ttnn.silu(x)
        ttnn.all_reduce(x)
        for axis in (None, 0, 1):
            gathered = ttnn.all_gather(x, 3, cluster_axis=axis)
            ttnn.reduce_scatter(gathered, 3, cluster_axis=axis)

    results = judged(run)
    assert [result.status for result in results] == [COMPARED] * 8, results
    assert max(result.rel_l2 for result in results) < 1e-6


CASES = {
    "paged caches": lambda on: [
        lambda: ttnn.experimental.paged_fill_cache(
            on(torch.zeros(4, 2, 32, 32)), on(torch.randn(1, 2, 40, 32)), on(torch.tensor([[2, 0], [1, 3]]), ttnn.int32)
        )
    ],
    "minimal matmul": lambda on: [
        lambda: ttnn.experimental.minimal_matmul(
            on(torch.randn(1, 1, 32, 64)),
            on(torch.randn(64, 96)),
            bias_tensor=on(torch.randn(1, 96)),
        )
    ],
    "rotary by halves": lambda on: [
        lambda: ttnn.experimental.rotary_embedding_hf(
            on(torch.randn(1, 4, 32, 64)), on(torch.randn(1, 1, 32, 64)), on(torch.randn(1, 1, 32, 64))
        )
    ],
    "windowed attention": lambda on: [
        lambda: ttnn.transformer.scaled_dot_product_attention(
            *(on(torch.randn(1, heads, 64, 32)) for heads in (4, 2, 2)), is_causal=True, sliding_window_size=20
        )
    ],
    "masked attention": lambda on: [
        lambda: ttnn.transformer.scaled_dot_product_attention(
            *(on(torch.randn(1, 2, 64, 32)) for _ in range(3)), is_causal=False, attn_mask=on(torch.randn(1, 1, 64, 64))
        )
    ],
    "moves": lambda on: [
        lambda: ttnn.concat([on(torch.randn(1, 1, 32, 32)), on(torch.randn(1, 1, 32, 64))], dim=-1),
        lambda: ttnn.permute(on(torch.randn(1, 2, 32, 64)), (0, 2, 1, 3)),
        lambda: ttnn.transpose(on(torch.randn(1, 1, 32, 64)), -2, -1),
        lambda: ttnn.reshape(on(torch.randn(1, 1, 32, 64)), (1, 2, 32, 32)),
        lambda: ttnn.pad(on(torch.randn(1, 1, 32, 32)), [(0, 0), (0, 0), (0, 32), (0, 0)], 2.0),
        lambda: ttnn.repeat(on(torch.randn(1, 1, 32, 32)), (1, 2, 1, 1)),
        lambda: ttnn.slice(on(torch.randn(1, 1, 64, 64)), [0, 0, 0, 32], [1, 1, 32, 64]),
    ],
    "norms": lambda on: [
        lambda: ttnn.layer_norm(
            on(torch.randn(1, 1, 32, 64)), weight=on(torch.randn(1, 64)), bias=on(torch.randn(1, 64))
        ),
        lambda: ttnn.rms_norm(on(torch.randn(1, 1, 32, 64)), residual_input_tensor=on(torch.randn(1, 1, 32, 64))),
        lambda: ttnn.softmax(on(torch.randn(1, 1, 32, 64)), dim=-1),
    ],
    "elementwise": lambda on: [
        lambda: on(torch.randn(1, 1, 32, 32)) - 2.0,
        lambda: 1.0 - on(torch.randn(1, 1, 32, 32)),
        lambda: ttnn.gelu(on(torch.randn(1, 1, 32, 32))),
        lambda: ttnn.multiply(
            on(torch.randn(1, 1, 32, 32)),
            on(torch.randn(1, 1, 1, 32)),
            input_tensor_a_activations=[ttnn.UnaryOpType.SILU],
        ),
        lambda: ttnn.linear(
            on(torch.randn(1, 1, 32, 32)), on(torch.randn(32, 32)), activation="gelu", transpose_b=True
        ),
        lambda: ttnn.sum(on(torch.randn(1, 1, 32, 32)), dim=-1, keepdim=True),
        lambda: ttnn.mean(on(torch.randn(1, 1, 32, 32)), dim=-1, keepdim=True),
        lambda: ttnn.max(on(torch.randn(1, 1, 32, 32)), dim=-1, keepdim=True),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_goldens_are_what_exact_arithmetic_gives(device, case):
    torch.manual_seed(3)
    calls = CASES[case](lambda values, dtype=ttnn.bfloat16: on(device, values, dtype))
    for call in calls:
        *_, result = judged(call)  # the tensors come first
        assert (result.status, result.golden) == (COMPARED, "tttdebug"), result
        assert result.rel_l2 < 2e-6, result


def test_every_op_that_ttnn_itself_has_no_golden_of_has_one_here():
    without = "rotary_embedding_llama rotary_embedding_llama_fused_qk nlp_create_qkv_heads nlp_create_qkv_heads_decode"
    without += " nlp_concat_heads nlp_concat_heads_decode paged_fill_cache paged_update_cache paged_fused_update_cache"
    without += " minimal_matmul all_gather_async all_gather_matmul_async reduce_scatter_minimal_async"
    for name in without.split():
        assert golden_of(f"ttnn.experimental.{name}") or collective_golden_of(f"ttnn.experimental.{name}"), name


class Operation:
    """What the real package makes of each op, as far as listening needs it."""

    def __init__(self, name, function, golden=None):
        self.python_fully_qualified_name, self.function, self.golden_function = name, function, golden

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def test_operations_of_the_real_package_are_heard_at_the_top_level_only():
    inner = Operation("ttnn.reshape", lambda x: x)
    outer, golden = Operation("ttnn.linear", lambda x: inner(x) + 1, lambda x: x + 1), []
    heard = []

    def before(op):
        golden.append(op.golden)
        return op.name

    original = Operation.__call__
    with to_operation_class(Operation, before, lambda *told: heard.append(told[:2])):
        assert outer(1) == 2
        assert inner(5) == 5
    assert heard == [("ttnn.linear", 2), ("ttnn.reshape", 5)]
    assert golden[0](1) == 2
    assert golden[1] is None
    assert Operation.__call__ is original


def test_an_op_of_the_real_package_that_raises_leaves_everything_as_it_was():
    bad, good, heard = Operation("ttnn.exp", lambda: 1 / 0), Operation("ttnn.log", lambda: 3), []
    original = Operation.__call__

    def run():
        with to_operation_class(Operation, lambda op: op.name, lambda *told: heard.append(told[0])):
            with pytest.raises(ZeroDivisionError):
                bad()
            assert good() == 3  # the depth was counted down
            bad()

    with pytest.raises(ZeroDivisionError):
        run()
    assert heard == ["ttnn.log"]
    assert Operation.__call__ is original
