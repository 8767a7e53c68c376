# SPDX-License-Identifier: Apache-2.0
"""Baseline files: a run is held to them, they only tighten, and what is damaged in one is named."""

import subprocess
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_runs import MODEL, errors_of, recorded

from tttdebug.errors import BaselineError, ComparisonError
from tttdebug.testing.baseline import Entry, baseline_of, updated
from tttdebug.testing.baseline_file import baseline_text, read_baseline, read_side, write_baseline
from tttdebug.testing.comparing import compare_sides
from tttdebug.testing.side import side_of_run
from tttdebug.testing.standing import Place
from tttdebug.tracking.record import Key
from typed_command import typed

ERRORS = errors_of()
FIRST = Entry("Ada", date(2026, 1, 1), "the first port that passed")
LATER = Entry("Bea", date(2026, 2, 2), "a newer one")


def side(path, factor_of=lambda key: 1.0, **options):
    return side_of_run(recorded(path, {key: error * factor_of(key) for key, error in ERRORS.items()}, **options))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return side(tmp_path_factory.mktemp("run") / "run")


@pytest.mark.parametrize("patterns", [False, True])
def test_a_baseline_comes_back_as_it_was_and_its_own_run_holds_it(run, tmp_path, patterns):
    file = tmp_path / "baseline.toml"
    written = baseline_of(run, FIRST, patterns=patterns)
    write_baseline(written, file)
    read = read_baseline(file)
    assert read.history == (FIRST,)
    assert baseline_text(read) == file.read_text()
    assert len(read.limits) == (6 if patterns else 24)
    comparison = compare_sides(run, read_side(file))
    assert {change.kind for change in comparison.changes} == {"same"}
    assert not comparison.differences


@pytest.mark.parametrize("patterns", [False, True])
def test_a_run_that_is_worse_anywhere_does_not_hold_it(run, tmp_path, patterns):
    baseline = baseline_of(run, FIRST, patterns=patterns).side("baseline.toml")
    worse = side(tmp_path / "run", lambda key: 2.0 if key.boundary == "L03.mlp" else 1.0)
    assert {change.place.boundary for change in compare_sides(worse, baseline).of_kind("worse")} == {"L03.mlp"}
    one_call = side(tmp_path / "one", lambda key: 6.0 if key == Key("L03.mlp", "decode", 3, 1) else 1.0)
    assert {change.place for change in compare_sides(one_call, baseline).of_kind("worse")} == {
        Place("L03.mlp", "decode")
    }


@pytest.mark.parametrize("patterns", [False, True])
def test_a_boundary_that_a_run_no_longer_compares_has_vanished(run, tmp_path, patterns):
    baseline = baseline_of(run, FIRST, patterns=patterns).side("baseline.toml")
    left = {key: error for key, error in ERRORS.items() if not key.boundary.endswith("mlp")}
    comparison = compare_sides(side_of_run(recorded(tmp_path / "run", left)), baseline)
    assert comparison.got_worse
    names = {"L*.mlp"} if patterns else {f"L0{layer}.mlp" for layer in range(4)}
    assert {change.place.boundary for change in comparison.of_kind("vanished")} == names


def test_of_several_patterns_the_longest_holds_and_a_name_before_all(run):
    limits = baseline_of(run, FIRST).limits
    limit = limits[Place("L00.mlp")]
    patterned = {Place("*"): limit, Place("L*.mlp"): limit, Place("L02.mlp"): limit}
    from tttdebug.testing.comparing import entry_of

    assert entry_of(Place("L02.mlp"), patterned) == Place("L02.mlp")
    assert entry_of(Place("L03.mlp"), patterned) == Place("L*.mlp")
    assert entry_of(Place("logits"), patterned) == Place("*")
    assert entry_of(Place("logits", "decode"), patterned) is None


@given(factors=st.lists(st.floats(0.2, 5), min_size=3, max_size=3), patterns=st.booleans())
@settings(max_examples=15)
def test_an_update_only_tightens(run, tmp_path_factory, factors, patterns):
    of_kind = dict(zip(("self_attn", "mlp", "layer_out"), factors, strict=True))
    later = side(tmp_path_factory.mktemp("later") / "run", lambda key: of_kind[key.boundary[4:]])
    before = baseline_of(run, FIRST, patterns=patterns)
    after = updated(before, later, LATER)
    assert after.limits.keys() == before.limits.keys()
    for place, limit in after.limits.items():
        assert limit.standing.rel_l2 <= before.limits[place].standing.rel_l2
        assert limit.standing.worst <= before.limits[place].standing.worst
        tightened = of_kind[place.boundary.split(".")[1]] < 0.7
        assert tightened <= (limit.since == 2)
    assert updated(after, later, LATER) is after
    assert (after is before) == (not any(limit.since == 2 for limit in after.limits.values()))


def test_loosening_needs_a_reason_and_takes_what_the_run_gives(run, tmp_path):
    left = {key: 2 * error for key, error in ERRORS.items() if key.boundary != "L03.mlp"}
    later = side_of_run(recorded(tmp_path / "run", left))
    before = baseline_of(run, FIRST)
    with pytest.raises(BaselineError, match="--why"):
        updated(before, later, Entry("Bea", date(2026, 2, 2), ""), loosen=True)
    kept = updated(before, later, LATER)
    assert kept is before
    after = updated(before, later, LATER, loosen=True)
    assert after.history == (FIRST, LATER)
    assert after.limits.keys() == {place for place in before.limits if place.boundary != "L03.mlp"}
    assert not compare_sides(later, after.side("after")).got_worse


def test_a_failing_verdict_that_is_mended_may_not_come_back(run, tmp_path):
    key = Key("L02.mlp", "decode", 1, 0)
    failing = side_of_run(recorded(tmp_path / "failing", ERRORS, {key: "diverged"}))
    baseline = baseline_of(failing, FIRST)
    assert not compare_sides(failing, baseline.side("b")).got_worse
    mended = updated(baseline, run, LATER)
    assert mended.limits[Place("L02.mlp", "decode")].standing.verdict == "ok"
    assert compare_sides(failing, mended.side("b")).got_worse


def test_new_boundaries_get_a_limit(run, tmp_path):
    later = side_of_run(recorded(tmp_path / "run", ERRORS | {Key("logits"): 0.1}))
    after = updated(baseline_of(run, FIRST), later, LATER)
    assert [place for place, limit in after.limits.items() if limit.since == 2] == [Place("logits")]


def test_another_model_does_not_update_it(run, tmp_path):
    other = side_of_run(recorded(tmp_path / "run", ERRORS, model={**MODEL, "layers": 5}))
    with pytest.raises(ComparisonError, match="other models"):
        updated(baseline_of(run, FIRST), other, LATER)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "no schema"),
        (lambda text: text.replace("schema = 1", "schema = 2"), "schema 2.*upgrade"),
        (lambda text: text.replace("[[history]]", "[history]"), "damaged"),
        (lambda text: text.replace("since = 1", "since = 2", 1), "not in the history"),
        (lambda text: text.replace("rel_l2 = ", "rel_l2 = -", 1), "out of range"),
        (lambda text: text.replace("rel_l2 = ", "rel_l2 = nan # ", 1), "cannot be read"),
        (lambda text: text.replace("layers = 4", ""), "damaged"),
        (lambda text: text.replace("2026-01-01", "2026-01-01T00:00:00"), "no day"),
        (lambda text: text[: len(text) // 2] + "\x00", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(run, tmp_path, damage, message):
    file = tmp_path / "baseline.toml"
    file.write_text(damage(baseline_text(baseline_of(run, FIRST))))
    with pytest.raises(BaselineError, match=rf"baseline\.toml.*{message}"):
        read_baseline(file)


@given(data=st.data())
@settings(max_examples=60)
def test_no_change_of_a_file_gives_another_error(run, tmp_path_factory, data):
    text = baseline_text(baseline_of(run, FIRST, patterns=True)).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    file = tmp_path_factory.mktemp("changed") / "baseline.toml"
    file.write_bytes(text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :])
    with suppress(BaselineError, ComparisonError):
        compare_sides(run, read_side(file))


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_text_may_be_a_reason(run, tmp_path_factory, why):
    file = tmp_path_factory.mktemp("why") / "baseline.toml"
    write_baseline(baseline_of(run, Entry(why, date(2026, 1, 1), why), patterns=True), file)
    assert read_baseline(file).history[0].why == why


def test_the_command_writes_proposes_and_tightens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(["git", "config", "user.name", "Grace"], check=True)
    recorded(tmp_path / "one", ERRORS)
    recorded(tmp_path / "two", {key: error * (0.5 if "mlp" in key.boundary else 1) for key, error in ERRORS.items()})
    assert typed("baseline", "one", "--out", "limits.toml", "--why", "it works") == 0
    assert typed("baseline", "one", "--out", "limits.toml") == 2
    assert "exists already" in capsys.readouterr().err
    assert read_baseline("limits.toml").history[0].by == "Grace"
    assert typed("compare", "one", "limits.toml") == 0
    before = (tmp_path / "limits.toml").read_text()
    capsys.readouterr()
    assert typed("baseline", "two", "--propose", "limits.toml") == 0
    proposal = capsys.readouterr().out
    assert (tmp_path / "limits.toml").read_text() == before
    (tmp_path / "proposal.diff").write_text(proposal)
    subprocess.run(["git", "apply", "proposal.diff"], check=True)
    applied = (tmp_path / "limits.toml").read_text()
    (tmp_path / "limits.toml").write_text(before)
    assert typed("baseline", "two", "--update", "limits.toml") == 0
    assert (tmp_path / "limits.toml").read_text() == applied != before
    assert typed("compare", "one", "limits.toml") == 1
    assert typed("baseline", "one", "--update", "limits.toml") == 0
    assert (tmp_path / "limits.toml").read_text() == applied
    assert typed("baseline", "one", "--update", "limits.toml", "--loosen") == 2
    assert typed("baseline", "one", "--update", "limits.toml", "--loosen", "--why", "a bug") == 0
    assert typed("compare", "one", "limits.toml") == 0
    assert typed("baseline", "one") == 2
    capsys.readouterr()
    assert typed("compare", "limits.toml", "one") == 2
    assert "limits.toml is not a run" in capsys.readouterr().err
    assert typed("compare", "two", "one", "limits.toml") == 0


def test_limits_are_taken_from_a_whole_run_only(tmp_path, capsys):
    recorded(tmp_path / "one", ERRORS)
    from tttdebug.tracking.manifest import Manifest

    manifest = Manifest.read(tmp_path / "one" / "manifest.json")
    type(manifest)(**{**vars(manifest), "status": "unfinished"}).write(tmp_path / "one" / "manifest.json")
    assert typed("baseline", tmp_path / "one", "--out", tmp_path / "limits.toml") == 2
    assert "finished run" in capsys.readouterr().err
    assert not (tmp_path / "limits.toml").exists()
