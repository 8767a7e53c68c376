# SPDX-License-Identifier: Apache-2.0
"""What a green gate rests on: limits that hold, and a ledger in which nothing is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import RunError, ThresholdError
from tttdebug.testing.default_thresholds import default_thresholds
from tttdebug.testing.gating import gate_run
from tttdebug.testing.thresholds import thresholds_from_toml
from tttdebug.tracking.call_arguments import CallArguments
from tttdebug.tracking.calls import CONTRADICTION, Call, UserCall, contradictions
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import Run

PROMPT = list(range(3, 43))
EVERYTHING = '[[threshold]]\nboundaries = "*"\npcc = 0.1\n'

Edit = Callable[[dict[str, Any]], "dict[str, Any] | None"]


def tracked(out: Path, precision: str = "bf16", **broken: torch.Tensor) -> Path:
    """A run of a tiny Llama, its port with some weights of its own."""
    reference = td.load_reference(tiny_llama())
    weights = dict(reference.model.state_dict()) | broken
    port = td.build_model(reference, td.open_device("emulated"), precision=precision, weights=weights)
    return td.track(
        port, reference, [PROMPT], 2, out=out, command="tttdebug run --model tiny", save_tensors="none"
    ).path


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return tracked(tmp_path_factory.mktemp("runs") / "sound")


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """Gate and up of the second layer exchanged."""
    state, names = tiny_llama().state_dict(), [f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up")]
    exchanged = {names[0]: state[names[1]], names[1]: state[names[0]]}
    return tracked(tmp_path_factory.mktemp("runs") / "broken", **exchanged)


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return unsealed(Path(shutil.copytree(sound, tmp_path / "copy")))


def unsealed(run: Path) -> Path:
    """The run as an earlier version wrote it, whose files anybody could edit: without digests of them."""
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in content.items() if name not in ("seals", "digest")}))
    return run


def edit_lines(run: Path, name: str, edit: Edit) -> None:
    """Replace each line by what `edit` makes of it, None for nothing; the manifest counts what is left."""
    lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
    left = [edited for line in lines if (edited := edit(line)) is not None]
    (run / name).write_text("".join(json.dumps(line) + "\n" for line in left))
    if name == "records.jsonl":
        edit_manifest(run, compared=len(left))


def edit_manifest(run: Path, **changes: Any) -> None:
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_metric(boundary: str, phase: str, **metrics: Any) -> Edit:
    return lambda line: line | metrics if (line["boundary"], line["phase"]) == (boundary, phase) else line


def limits(text: str):
    return thresholds_from_toml(text, "limits.toml")


def gated(run: Path, text: str = EVERYTHING, **options: Any):
    return gate_run(run, limits(text), **options)


@pytest.mark.parametrize("precision", ["bf16", "performance"])
def test_the_defaults_fail_just_what_tracking_fails(precision, tmp_path):
    state = tiny_llama().state_dict()
    noise = "model.layers.0.self_attn.o_proj.weight"
    for out, changes in (
        ("sound", {}),
        ("noisy", {noise: state[noise] * 1.5 + 0.05 * torch.randn(state[noise].shape)}),
    ):
        run = Run.load(tracked(tmp_path / out, precision, **changes))
        result = gate_run(run.path, default_thresholds())
        assert {miss.key for miss in result.misses} == {record.key for record in run.failed}
        assert result.ledger.excused == sum(record.verdict == "floor" for record in run.records)
        assert result.passed == run.passed == (out == "sound")


def test_a_failure_says_what_where_and_by_which_limit(broken):
    result = gate_run(broken, default_thresholds())
    assert not result.passed
    assert not result.objections
    first = result.misses[0]
    assert (first.key.boundary, first.key.phase, first.metric) == ("L01.mlp", "prefill", "pcc")
    assert first.value < first.limit == 0.99
    assert first.says.startswith("pcc 0.") or first.says.startswith("pcc -")
    assert "model.layers.1.mlp" in first.about
    assert "worst token" in first.where
    assert "greatest error at [" in first.where
    assert first.threshold == "the default thresholds, line 5"
    assert result.command == "tttdebug run --model tiny"


def test_the_later_threshold_counts_metric_by_metric(sound):
    text = """
    [[threshold]]
    boundaries = "*"
    pcc = 1.0
    rel_l2 = 0.5
    [[threshold]]
    boundaries = "*"
    pcc = 0.1
    """
    assert gated(sound, text).passed
    turned = gated(sound, text.replace("pcc = 1.0", "pcc = 0.05").replace("pcc = 0.1", "pcc = 1.0"))
    assert {miss.threshold for miss in turned.misses} == {"limits.toml, line 6"}


def test_selected_by_phase_step_and_boundary(sound):
    text = EVERYTHING + '[[threshold]]\nboundaries = ["L*.mlp"]\nphase = "decode"\nstep = 1\nulp_max = 0\n'
    missed = {(miss.key.boundary, miss.key.phase, miss.key.step) for miss in gated(sound, text).misses}
    assert missed == {("L00.mlp", "decode", 1), ("L01.mlp", "decode", 1)}


def test_when_a_weight_is_kept_in_a_format(tmp_path):
    run = unsealed(tracked(tmp_path / "run", "performance"))
    text = EVERYTHING + '[[threshold]]\nboundaries = "*"\nwhen = "bfloat4_b"\npcc = 1.0\n'
    assert {miss.key.boundary for miss in gated(run, text).misses} == {"L00.mlp", "L01.mlp"}
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["hardware"]["layers"] = [[1, manifest["hardware"] | {"ff1_ff3": "bfloat8_b"}]]
    edit_manifest(run, hardware=manifest["hardware"])
    assert {miss.key.boundary for miss in gated(run, text).misses} == {"L00.mlp"}


def test_a_condition_that_is_not_met_is_said(sound):
    text = EVERYTHING + '[[threshold]]\nboundaries = "*"\nwhen = "bfloat4_b"\npcc = 1.0\n'
    (said,) = gated(sound, text).ledger.set_aside
    assert said == "limits.toml, line 4: nothing that it names has weights in bfloat4_b"
    text = EVERYTHING + '[[threshold]]\nboundaries = "*"\nprecision = "performance"\npcc = 1.0\n'
    (said,) = gated(sound, text).ledger.set_aside
    assert said == "limits.toml, line 4: the run is of precision 'bf16', not 'performance'"
    (said,) = gated(sound, EVERYTHING + EVERYTHING).ledger.set_aside
    assert said == "limits.toml, line 1: later ones override all of it"


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ('boundaries = "L*.mpl"\npcc = 0.9', r"line 4: L\*\.mpl names nothing .* nearest: L0.\.mlp"),
        ('boundaries = ["embed", "L*.mpl"]\npcc = 0.9', r"line 4: L\*\.mpl names nothing"),
        ('boundaries = "embed"\nphase = "decode"\nstep = 9\npcc = 0.9', "line 4: embed .* not in phase decode, step 9"),
        ('boundaries = "*"\nmode = "isolated"\npcc = 0.9', r"line 4: \* names nothing .* not in mode isolated"),
        ('boundaries = "*"\nprecision = "perfomance"\npcc = 0.9', "line 4: .*'perfomance' .* nearest: performance"),
    ],
)
def test_a_threshold_that_names_nothing_is_refused(sound, added, says):
    with pytest.raises(ThresholdError, match=says):
        gated(sound, f"{EVERYTHING}[[threshold]]\n{added}\n")
    assert gated(sound, f"{EVERYTHING}[[threshold]]\n{added}\noptional = true\n").passed


def test_a_boundary_that_no_threshold_names_is_refused(sound):
    with pytest.raises(ThresholdError, match=r"no threshold applies to L00\.input_norm in prefill 0 and \d+ other"):
        gated(sound, '[[threshold]]\nboundaries = "embed"\npcc = 0.9\n')
    with pytest.raises(ThresholdError, match="no threshold applies to embed in decode 0"):
        gated(sound, '[[threshold]]\nboundaries = "*"\nphase = "prefill"\npcc = 0.9\n')


@pytest.mark.parametrize("metric", ["pcc", "slope", "rel_l2", "rel_l2_of_floor", "max_abs_diff", "ulp_p99", "rmse"])
def test_nan_fails_where_a_limit_is_set_and_only_there(copy, metric):
    column = "floor_rel_l2" if metric == "rel_l2_of_floor" else metric
    edit_lines(copy, "records.jsonl", with_metric("L00.mlp", "prefill", **{column: "nan"}))
    limit = 0.1 if metric == "pcc" else 0.9 if metric in ("slope", "rel_l2") else 1e9
    (miss,) = gated(copy, f'[[threshold]]\nboundaries = "*"\n{metric} = {limit}\n').misses
    assert (miss.key.boundary, miss.metric) == ("L00.mlp", metric)
    assert "nan is not" in miss.says
    assert gated(copy, '[[threshold]]\nboundaries = "*"\nnorm_ratio = 0.9\n').passed


def test_a_constant_reference_is_held_to_its_error_instead(copy):
    constant = {"pcc": "nan", "note": "constant reference: no pcc, judge by rel_l2"}
    edit_lines(copy, "records.jsonl", with_metric("embed", "prefill", **constant, rel_l2=0.001))
    assert gated(copy, EVERYTHING.replace("0.1", "0.99")).passed
    edit_lines(copy, "records.jsonl", with_metric("embed", "prefill", rel_l2=0.2))
    (miss,) = gated(copy, EVERYTHING.replace("0.1", "0.99")).misses
    assert miss.says.startswith("rel_l2 0.2 is not ≤ 0.142")


@pytest.mark.parametrize(
    ("verdict", "pcc", "rel_l2"),
    [("nonfinite", "nan", "nan"), ("nonfinite", 0.0, 0.0), ("shape_mismatch", "nan", "nan")],
)
def test_what_fails_whatever_the_limits_are(copy, verdict, pcc, rel_l2):
    changes = {"verdict": verdict, "pcc": pcc, "rel_l2": rel_l2, "note": "so it is"}
    edit_lines(copy, "records.jsonl", with_metric("L00.mlp", "prefill", **changes))
    result = gated(copy, EVERYTHING + "floor_excuses = true\n")
    *of_pcc, last = result.misses
    assert (last.key.boundary, last.metric, last.says) == ("L00.mlp", verdict, "so it is")
    assert [miss.metric for miss in of_pcc] == (["pcc"] if (verdict, pcc) == ("nonfinite", "nan") else [])
    assert (result.ledger.failed, result.ledger.excused) == (1, 0)


def test_nothing_compared_fails(copy):
    edit_lines(copy, "records.jsonl", lambda line: None)
    assert "nothing was compared" in gated(copy).objections


def test_a_run_that_did_not_finish_fails(copy):
    edit_manifest(copy, status="failed: RuntimeError: device hung")
    assert "the run did not finish: failed: RuntimeError: device hung" in gated(copy).objections
    (copy / "records.jsonl").write_text("")
    assert not gated(copy).passed


def test_what_is_missing_without_a_reason_fails(copy):
    edit_lines(copy, "records.jsonl", lambda line: None if line["boundary"] == "L01.mlp" else line)
    (objection,) = gated(copy).objections
    assert "were expected" in objection


def test_a_record_that_is_there_twice_does_not_fill_a_gap(copy):
    other = {}

    def twice(line):
        other.setdefault("first", line)
        return other["first"] if line["boundary"] == "logits" and line["phase"] == "prefill" else line

    edit_lines(copy, "records.jsonl", twice)
    (objection,) = gated(copy).objections
    assert objection == "1 comparisons are there more than once, first embed in prefill"


def skipping(run: Path, reason: str) -> None:
    edit_lines(run, "records.jsonl", lambda line: None if line["boundary"] == "L00.k_cache" else line)
    calls = [("prefill", 0), ("decode", 0), ("decode", 1)]
    skipped = [{"boundary": "L00.k_cache", "phase": p, "step": s, "user": 0, "reason": reason} for p, s in calls]
    edit_manifest(run, skipped=skipped)


def test_a_skipped_comparison_fails_unless_it_is_allowed_for_that_reason(copy):
    skipping(copy, "the port did not use cache.0 in this call")
    result = gated(copy)
    assert result.objections == ("3 skipped, first L00.k_cache in prefill: the port did not use cache.0 in this call",)
    allowed = gated(copy, EVERYTHING + '[allow]\nskipped = ["L*.k_cache: the port did not use *"]\n')
    assert allowed.passed
    assert (allowed.ledger.allowed, allowed.ledger.reasons.total()) == (3, 3)
    with pytest.raises(ThresholdError, match=r"skipped nothing that is .*nearest: L00\.k_cache: the port did not use"):
        gated(copy, EVERYTHING + '[allow]\nskipped = ["L00.k_cache: the tensor was freed"]\n')


def test_a_threshold_of_what_was_skipped_still_names_something(copy):
    skipping(copy, "freed")
    text = EVERYTHING + '[[threshold]]\nboundaries = "L00.k_cache"\npcc = 0.9\n'
    assert not gated(copy, text).passed


def test_a_boundary_that_vanished_since_the_baseline_fails(copy, sound):
    assert gated(copy, baseline=sound).passed
    edit_lines(copy, "records.jsonl", lambda line: None if line["boundary"] == "L01.mlp" else line)
    count = len((copy / "records.jsonl").read_text().splitlines())
    edit_manifest(copy, expected=count)
    assert gated(copy).passed
    assert gated(copy, baseline=sound).objections == (
        f"L01.mlp in prefill vanished: 1 comparisons of {sound} are not in this run",
        f"L01.mlp in decode vanished: 2 comparisons of {sound} are not in this run",
    )


def test_another_reference_fails(copy, sound):
    digest = json.loads((copy / "manifest.json").read_text())["model"]["weights_digest"]
    assert gated(copy, reference_digest=digest[:12].upper()).passed
    (objection,) = gated(copy, reference_digest="deadbeef").objections
    assert digest in objection
    with pytest.raises(ThresholdError, match="'dead' is no digest"):
        gated(copy, reference_digest="dead")
    manifest = json.loads((copy / "manifest.json").read_text())
    edit_manifest(copy, model=manifest["model"] | {"weights_digest": "0" * 64})
    assert any("is not that of" in said for said in gated(copy, baseline=sound).objections)


def test_decode_steps_that_did_not_happen_fail(copy):
    def without_last(line):
        return None if (line["phase"], line["step"]) == ("decode", 1) else line

    edit_lines(copy, "records.jsonl", without_last)
    edit_manifest(copy, expected=len((copy / "records.jsonl").read_text().splitlines()))
    (objection,) = gated(copy).objections
    assert "did not reach the port in 1 of 2 decode steps, first step 1 of user 0" in objection


def test_a_call_at_another_position_fails(copy):
    edit_lines(copy, "calls.jsonl", lambda call: call | {"positions": [7]} if call["phase"] == "decode" else call)
    (objection,) = gated(copy).objections
    assert "told 7, the reference's token is at 40" in objection


def test_another_token_in_decode_fails_even_where_the_limits_are_lax(copy):
    edit_lines(copy, "records.jsonl", with_metric("embed", "decode", pcc=0.2))
    (objection,) = gated(copy).objections
    assert "did not read the reference's token in 2 calls, first decode 0, user 0" in objection


def test_what_a_call_was_told_wrongly_fails_whatever_its_numbers(copy):
    call = Call("decode", 3, {0: UserCall((5,), 43, {}, {})})
    said = contradictions(CallArguments("forward", "prefill", positions=(41,)), call)
    assert len(said) == 2
    assert all(CONTRADICTION.fullmatch(each) for each in said)
    edit_lines(copy, "records.jsonl", with_metric("L00.self_attn", "decode", note="; ".join(said)))
    (objection,) = gated(copy).objections
    assert said[0] in objection


def test_replicas_that_differ_fail(copy):
    edit_lines(copy, "records.jsonl", with_metric("L00.mlp", "prefill", note="replicas differ: device 1 from device 0"))
    assert gated(copy).objections == (
        "a mesh disagrees: 1 records, first L00.mlp in prefill: replicas differ: device 1 from device 0",
    )


def test_an_experiment_is_judged_only_where_a_threshold_is_of_its_mode(copy):
    lines = (copy / "records.jsonl").read_text().splitlines()
    isolated = json.loads(lines[5]) | {"mode": "isolated", "pcc": 0.2, "verdict": "injected"}
    assert Record.from_json(isolated).failed
    (copy / "records.jsonl").write_text("\n".join((*lines, json.dumps(isolated), "")))
    text = EVERYTHING.replace("0.1", "0.9")
    assert gated(copy, text).passed
    (miss,) = gated(copy, text + '[[threshold]]\nboundaries = "*"\nmode = "isolated"\npcc = 0.9\n').misses
    assert miss.key.mode == "isolated"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text.replace('"pcc"', '"pc"', 1), "line 1, is damaged"),
        (lambda text: text.replace("{", "", 1), "line 1, is damaged"),
        (lambda text: text[:-20], "ends in the middle of a line"),
        (lambda text: text[text.index("\n") + 1 :], "holds .* records but the run made"),
    ],
)
def test_damage_is_no_result(copy, damage, says):
    path = copy / "records.jsonl"
    path.write_text(damage(path.read_text()))
    with pytest.raises(RunError, match=says):
        gated(copy)
