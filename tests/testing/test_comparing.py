# SPDX-License-Identifier: Apache-2.0
"""A run beside another: what is worse is found, chance is not, and what cannot be compared is refused."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_runs import DEVICE, MODEL, PROMPTS, errors_of, recorded

from tttdebug.errors import ComparisonError, RunError
from tttdebug.testing.across import across
from tttdebug.testing.comparing import compare_sides
from tttdebug.testing.side import side_of_run
from tttdebug.testing.standing import Place
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import Run
from tttdebug.tracking.writer import RunWriter
from typed_command import typed

ERRORS = errors_of()


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    return side_of_run(recorded(tmp_path_factory.mktemp("baseline") / "run", ERRORS))


def compared(path, baseline, errors, verdicts=None, **manifest):
    return compare_sides(side_of_run(recorded(path, errors, verdicts, **manifest)), baseline)


def places(changes):
    return {change.place for change in changes}


def times(factor_of):
    return {key: error * factor_of(key) for key, error in ERRORS.items()}


def test_the_same_run_again_changes_nothing(tmp_path, baseline):
    comparison = compared(tmp_path / "run", baseline, ERRORS)
    assert not comparison.got_worse
    assert not comparison.differences
    assert {change.kind for change in comparison.changes} == {"same"}
    assert len(comparison.changes) == 4 * 3 * 2


@pytest.mark.parametrize(("factor", "kind"), [(1.3, "worse"), (0.7, "better")])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_boundary_that_errs_otherwise_in_every_call_is_named_alone(tmp_path, baseline, factor, kind, phase):
    changed = Place("L02.mlp", phase)
    errors = times(lambda key: factor if (key.boundary, key.phase) == ("L02.mlp", phase) else 1.0)
    comparison = compared(tmp_path / "run", baseline, errors)
    assert places(comparison.of_kind(kind)) == {changed}
    assert comparison.got_worse == (kind == "worse")
    assert comparison.changes[0].factor == pytest.approx(factor)


def test_a_fault_of_one_user_in_one_step_is_named_with_both(tmp_path, baseline):
    errors = times(lambda key: 5.0 if key == Key("L01.self_attn", "decode", 5, 1) else 1.0)
    (worse,) = compared(tmp_path / "run", baseline, errors).of_kind("worse")
    assert [(call.step, call.user) for call in worse.calls] == [(5, 1)]
    assert "step 5 of user 1" in worse.why


def test_roundings_that_fall_otherwise_are_no_change(tmp_path, baseline):
    """Each call redrawn as benchmarks/change_scatter.py measures it between two engines."""
    draw = random.Random(0)
    errors = times(lambda key: math.exp(draw.gauss(0, 0.04 if key.phase == "prefill" else 0.12)))
    comparison = compared(tmp_path / "run", baseline, errors)
    assert not comparison.got_worse
    assert not comparison.of_kind("better")


def test_a_gate_that_is_missed_now_is_worse_however_small_the_step(tmp_path, baseline):
    key = Key("L03.mlp", "decode", 2, 0)
    comparison = compared(tmp_path / "run", baseline, ERRORS, {key: "diverged"})
    (worse,) = comparison.of_kind("worse")
    assert "misses its gate: ok → diverged" in worse.why
    assert worse.verdict_changed
    back = compare_sides(baseline, side_of_run(tmp_path / "run"))
    assert places(back.of_kind("better")) == {worse.place}
    assert not back.got_worse


def test_a_verdict_that_the_formats_explain_changes_without_being_worse(tmp_path, baseline):
    comparison = compared(tmp_path / "run", baseline, ERRORS, dict.fromkeys(ERRORS, "floor"))
    assert not comparison.got_worse
    assert all(change.verdict_changed for change in comparison.changes)


def test_whose_an_error_is_does_not_matter(tmp_path):
    key = Key("L03.mlp", "decode", 2, 0)
    before, after = (
        side_of_run(recorded(tmp_path / verdict, ERRORS, {key: verdict})) for verdict in ("inherited", "diverged")
    )
    assert not compare_sides(after, before).got_worse


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_no_number_any_more_is_worse(tmp_path, baseline, error):
    key = Key("L03.mlp", "decode", 2, 0)
    comparison = compared(tmp_path / "run", baseline, {**ERRORS, key: error}, {key: "nonfinite"})
    assert places(comparison.of_kind("worse")) == {Place("L03.mlp", "decode")}
    again = compared(tmp_path / "again", side_of_run(tmp_path / "run"), {**ERRORS, key: error}, {key: "nonfinite"})
    assert {change.kind for change in again.changes} == {"same"}


def test_what_is_no_longer_compared_has_vanished(tmp_path, baseline):
    left = {key: error for key, error in ERRORS.items() if key.boundary != "L03.mlp" and key.step < 6}
    comparison = compared(tmp_path / "run", baseline, left | {Key("logits"): 0.1})
    assert comparison.got_worse
    assert places(comparison.of_kind("appeared")) == {Place("logits")}
    vanished = {change.place: change.why for change in comparison.of_kind("vanished")}
    assert vanished[Place("L03.mlp", "prefill")] == "is no longer compared"
    assert vanished[Place("L00.mlp", "decode")] == "4 of 16 calls vanished"
    assert Place("L00.mlp", "prefill") not in vanished


def test_experiments_count_only_where_both_runs_made_them(tmp_path, baseline):
    errors = ERRORS | {Key("L00.mlp", mode="isolated"): 0.01}
    comparison = compared(tmp_path / "run", baseline, errors)
    assert {change.place.mode for change in comparison.changes} == {"accumulated"}
    worse = compared(tmp_path / "worse", side_of_run(tmp_path / "run"), errors | {Key("L00.mlp", mode="isolated"): 0.1})
    assert places(worse.of_kind("worse")) == {Place("L00.mlp", "prefill", "isolated")}


def test_what_differs_around_the_numbers_is_said(tmp_path, baseline):
    comparison = compared(
        tmp_path / "run",
        baseline,
        ERRORS,
        device={**DEVICE, "engine": "exact"},
        model={**MODEL, "weights_digest": "cd"},
    )
    said = {difference.name: (difference.before, difference.after) for difference in comparison.differences}
    assert said == {"device.engine": ("fast", "exact"), "model.weights_digest": ("ab", "cd")}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"model": {**MODEL, "layers": 30}}, "other models: number of layers 4 → 30"),
        ({"model": {**MODEL, "architecture": "Other"}}, "other models: architecture Tiny → Other"),
        ({"model": {**MODEL, "name": "x", "weights_digest": "cd"}}, "tiny → x, with other weights"),
        ({"prompts": PROMPTS[:1]}, "other prompts"),
    ],
)
def test_other_models_and_prompts_are_not_compared(tmp_path, baseline, manifest, words):
    with pytest.raises(ComparisonError, match=words):
        compared(tmp_path / "run", baseline, ERRORS, **manifest)


def test_an_unfinished_run_is_compared_as_far_as_it_went(tmp_path, baseline):
    whole = Run.load(recorded(tmp_path / "whole", ERRORS))
    writer = RunWriter(tmp_path / "run", replace(whole.manifest, status="unfinished", seals={}))
    for record in whole.records[:30]:
        writer.append(record)
    writer.fail(KeyboardInterrupt())
    comparison = compare_sides(side_of_run(tmp_path / "run"), baseline)
    assert comparison.got_worse
    assert not comparison.of_kind("worse", "better", "appeared")
    assert "status" in {difference.name for difference in comparison.differences}


def test_a_run_without_a_record_is_refused(tmp_path):
    with pytest.raises(ComparisonError, match="holds no record"):
        side_of_run(recorded(tmp_path / "run", {}))


@given(st.floats(1.5, 100), st.sampled_from(sorted({key.boundary for key in ERRORS})))
@settings(max_examples=10)
def test_what_is_worse_one_way_is_better_the_other_way(tmp_path_factory, factor, boundary):
    path = tmp_path_factory.mktemp("runs")
    one = side_of_run(recorded(path / "one", ERRORS))
    other = side_of_run(recorded(path / "other", times(lambda key: factor if key.boundary == boundary else 1.0)))
    there, back = compare_sides(other, one), compare_sides(one, other)
    assert (
        places(there.of_kind("worse"))
        == places(back.of_kind("better"))
        == {Place(boundary, phase) for phase in ("prefill", "decode")}
    )


def test_the_parquet_file_and_the_lines_say_the_same(tmp_path):
    path = recorded(tmp_path / "run", ERRORS | {Key("logits"): math.nan}, {Key("logits"): "nonfinite"})
    by_columns = side_of_run(path)
    (path / "records.parquet").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"records\.parquet is damaged"):
        side_of_run(path)
    manifest = Run.load(path).manifest
    seals = {name: seal for name, seal in manifest.seals.items() if name != "records.parquet"}
    type(manifest)(**{**vars(manifest), "seals": seals}).write(path / "manifest.json")
    assert str(side_of_run(path).calls) == str(by_columns.calls)


def test_several_runs_are_sorted_by_their_greatest_change(tmp_path, baseline):
    sides = [baseline] + [
        side_of_run(recorded(tmp_path / f"{i}", times(lambda key, i=i: 1 + i if key.boundary == "L01.mlp" else 1)))
        for i in (1, 2)
    ]
    rows = across(sides)
    assert {row.place.boundary for row in rows[:2]} == {"L01.mlp"}
    assert math.exp(rows[0].spread) == pytest.approx(3)
    assert rows[-1].spread == 0


def test_the_command_says_worse_same_and_not_comparable_by_its_exit_code(tmp_path, capsys):
    one = recorded(tmp_path / "one", ERRORS)
    two = recorded(tmp_path / "two", times(lambda key: 2.0 if key.boundary == "L02.mlp" else 1.0))
    other = recorded(tmp_path / "other", ERRORS, prompts=PROMPTS[:1])
    assert typed("compare", one, one) == 0
    assert "nothing is worse" in capsys.readouterr().out
    assert typed("compare", two, one) == 1
    assert "L02.mlp" in capsys.readouterr().out
    assert typed("compare", one, two) == 0
    assert typed("compare", one, other) == 2
    assert "other prompts" in capsys.readouterr().err
    assert typed("compare", one, two, two, "--worst", "3") == 0
    capsys.readouterr()
    assert typed("compare", two, one, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["got_worse"]
    assert [change["place"]["boundary"] for change in said["comparisons"][0]["changes"][:2]] == ["L02.mlp", "L02.mlp"]
