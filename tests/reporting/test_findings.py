# SPDX-License-Identifier: Apache-2.0
"""What the console and the JSON say of an explanation: every finding with its numbers, or what the formats cost."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.finding import COUNT, Candidate, Experiment, Finding, Fix
from tttdebug.reporting import json_summary
from tttdebug.reporting.console import divergence_text, verdict_text
from tttdebug.reporting.findings import explanation_view, records_text, sentence_of
from tttdebug.reporting.format_costs import format_costs
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key, Record, without_metrics
from tttdebug.tracking.run import Run

CONFIRMED = Finding(
    "L17.mlp",
    "weights_exchanged",
    "gate (w1) and up (w3) are exchanged",
    module="layers.17.feed_forward",
    reference_path="model.layers.17.mlp",
    experiments=(Experiment("w1 and w3 exchanged in the reference", 0.851, 0.0712, 0.0727),),
    fix=Fix("exchange w1 and w3", code="mlp.w1, mlp.w3 = mlp.w3, mlp.w1", settings={"FF1_FF3": "bfloat8_b"}),
    where=("columns 0 to 575 alike",),
    candidates=(Candidate("activation", "another activation", 0.41),),
    records=(Key("L17.mlp", mode="isolated"), Key("L17.mlp", "decode", 0, 0, "isolated")),
    share=0.93,
)
UNKNOWN = Finding(
    "L03.self_attn",
    "unknown",
    "errs alone by rel_l2 0.3 where its formats explain 0.02",
    candidates=(Candidate("rope_theta", "the rotary base is 5000", 0.12),),
)


def record(boundary: str, rel_l2: float, **changes: object) -> Record:
    numbers = without_metrics((64, 96)) | {"rel_l2": rel_l2, "pcc": 1 - rel_l2**2 / 2}
    facts = {
        "mode": "accumulated",
        "phase": "prefill",
        "step": 0,
        "user": 0,
        "verdict": "ok",
        "floor_rel_l2": rel_l2,
        "module": "",
        "reference_path": "",
        "dtype": "bfloat16",
        "adapters": (),
        "engine": "fast",
        "seconds": 0.0,
    }
    return Record(boundary=boundary, **(numbers | facts | changes))  # type: ignore[arg-type]


def run_of(*records: Record, experiments: tuple[Record, ...] = (), hardware: dict[str, object] | None = None) -> Run:
    manifest = Manifest(
        "2026-01-01T00:00:00",
        {"name": "llama", "source": "made here", "layers": 30},
        {"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]},
        "performance",
        ({"text": "a", "tokens": 64},),
        0,
        hardware=hardware or {},
        status="finished",
        expected=len(records),
        compared=len(records),
    )
    return Run(Path("reports/none"), manifest, list(records), list(experiments))


def printed(explanation: Explanation, width: int = 120) -> str:
    console = Console(width=width, highlight=False, color_system=None, file=io.StringIO())
    console.print(explanation_view(explanation))
    return console.file.getvalue()  # type: ignore[attr-defined]


def words(text: str) -> str:
    """The words of a panel, whatever the width."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("width", [80, 100, 160])
def test_nothing_that_matters_is_cut_off_at_any_width(width: int) -> None:
    failed = record("L17.mlp", 0.85, verdict="injected")
    text = words(printed(Explanation((CONFIRMED, UNKNOWN), ("L00.embed was not run alone",), run_of(failed)), width))
    for said in (
        "1 of 2: L17.mlp, weights_exchanged",
        "L17.mlp: gate (w1) and up (w3) are exchanged; that accounts for its rel_l2 of 0.851 but for 0.0712, where "
        "its number formats alone cause 0.0727",
        "w1 and w3 exchanged in the reference: rel_l2 0.851 → 0.0712 (floor 0.0727)",
        "columns 0 to 575 alike",
        "93% of the final error is gone",
        "mlp.w1, mlp.w3 = mlp.w3, mlp.w1",
        'decoder_config.json: {"FF1_FF3": "bfloat8_b"}',
        "activation: another activation (leaves rel_l2 0.41)",
        "layers.17.feed_forward of the port, model.layers.17.mlp of the reference",
        "L17.mlp prefill; L17.mlp decode 0",
        "2 of 2: L03.self_attn, cause not known",
        "rope_theta: the rotary base is 5000 (leaves rel_l2 0.12)",
        "FOUND L17.mlp: weights_exchanged, and 1 more finding; 1 of 2 without a confirmed cause.",
        "note: L00.embed was not run alone",
    ):
        assert said in text


def test_without_a_finding_the_dearest_formats_are_named_first() -> None:
    hardware = {
        "ff1_ff3": "bfloat4_b",
        "ff2": "bfloat8_b",
        "li_ff1_ff3": {"math_fidelity": "LoFi"},
        "li_ff2": {"math_fidelity": "HiFi2"},
    }
    experiments = tuple(record(f"L{i:02d}.mlp", 0.1 + i / 100, mode="isolated") for i in range(3))
    run = run_of(record("L00.mlp", 0.4), experiments=experiments, hardware=hardware)
    text = words(printed(Explanation((), (), run)))
    assert "NOTHING WRONG" in text
    assert "mlp 0.11 0.11 L02.mlp 0.12 bfloat4_b LoFi in FF1/FF3, bfloat8_b HiFi2 in FF2" in text


def test_what_is_counted_is_not_called_an_error() -> None:
    counted = (Experiment("different results of 3 runs", 3, 1, 1, COUNT),)
    noisy = replace(CONFIRMED, says="L17.mlp gives another result each time", experiments=counted)
    assert sentence_of(noisy) == "L17.mlp gives another result each time"
    text = words(printed(Explanation((noisy,), (), run_of(record("L17.mlp", 0.85, verdict="injected")))))
    assert "different results of 3 runs: 3, and 1 in a sound port" in text


def test_a_swap_that_makes_the_error_greater_says_so() -> None:
    failed = run_of(record("L17.mlp", 0.85, verdict="injected"))
    text = words(printed(Explanation((replace(CONFIRMED, share=-0.25),), (), failed)))
    assert "the final error is 25% greater with the reference's module in its place: errors cancel" in text


def test_a_run_whose_gates_hold_has_its_first_divergence_in_an_experiment(tmp_path: Path) -> None:
    alone = record("L02.k_cache", 0.018, mode="isolated", verdict="injected", reference_path="(keys in its cache)")
    run = replace(run_of(record("L00.mlp", 0.01), experiments=(alone,)), path=tmp_path)
    (tmp_path / "profiles.jsonl").touch()
    assert run.first_divergence() == alone
    text = divergence_text(run, alone).plain
    assert text.startswith("L02.k_cache differs from (keys in its cache) in prefill")
    assert "comparisons before it" not in text
    assert "every gate holds, but run alone L02.k_cache errs more" in verdict_text(run).plain


def test_a_run_that_fails_without_a_finding_is_not_called_sound() -> None:
    run = run_of(record("L00.layer_out", 0.4, verdict="diverged"))
    text = words(printed(Explanation((), (), run)))
    assert "NOT EXPLAINED" in text
    assert "L00.layer_out" in text
    assert "NOTHING WRONG" not in text


def test_a_run_that_compared_too_little_is_not_called_sound() -> None:
    run = run_of(record("L00.mlp", 0.01))
    run.manifest = replace(run.manifest, expected=2)
    text = words(printed(Explanation((), (), run)))
    assert "the run itself did not pass" in text
    assert "NOTHING WRONG" not in text


def test_a_finding_without_experiments_is_a_sentence_still() -> None:
    assert sentence_of(UNKNOWN) == "L03.self_attn: errs alone by rel_l2 0.3 where its formats explain 0.02"
    without_floor = replace(CONFIRMED, experiments=(Experiment("x", 0.5, 0.1, math.nan),))
    assert sentence_of(without_floor).endswith("its rel_l2 of 0.5 but for 0.1")


@given(st.lists(st.tuples(st.sampled_from(["L00.mlp", "L01.k_cache"]), st.integers(0, 40), st.integers(0, 3))))
def test_every_step_and_user_of_the_records_is_named(calls: list[tuple[str, int, int]]) -> None:
    text = records_text([Key(boundary, "decode", step, user) for boundary, step, user in calls])
    for boundary in ("L00.mlp", "L01.k_cache"):
        steps = {step for of, step, _ in calls if of == boundary}
        part = next((part for part in text.partition(" (users")[0].split("; ") if part.startswith(boundary)), "")
        named: set[int] = set()
        for numbers in filter(None, part.removeprefix(f"{boundary} decode ").split(", ")):
            first, _, last = numbers.partition(" to ")
            named |= set(range(int(first), int(last or first) + 1))
        assert named == steps


def test_json_has_the_findings_and_null_where_nobody_looked() -> None:
    run = run_of(record("L17.mlp", 0.85, verdict="injected"))
    explained = json.loads(json_summary.dumps(run, explanation=Explanation((CONFIRMED,), ("a note",), run)))
    assert Finding.from_json(explained["findings"][0]) == CONFIRMED
    assert explained["explanation_notes"] == ["a note"]
    assert json.loads(json_summary.dumps(run))["findings"] is None


def test_costs_are_of_what_holds_and_of_modules_alone_where_these_are_known() -> None:
    alone = (record("L00.mlp", 0.1, mode="isolated"), record("L01.mlp", 0.9, mode="isolated", verdict="injected"))
    [cost] = format_costs(run_of(record("L00.mlp", 0.4), experiments=alone))
    assert (cost.kind, cost.rel_l2, cost.worst, cost.formats) == ("mlp", 0.1, "L00.mlp", "")
    [cost] = format_costs(run_of(record("L00.mlp", 0.4)))
    assert cost.rel_l2 == 0.4
