# SPDX-License-Identifier: Apache-2.0
"""Whose the error is: verdicts from isolated and inherited records."""

import dataclasses

from tttdebug.analysis.verdicts import AMPLIFIES, verdicts_of
from tttdebug.tracking.record import Record, without_metrics

HOLDERS = {"L00.self_attn": "L00.layer_out", "L00.mlp": "L00.layer_out", "L00.layer_out": None, "L01.mlp": None}
ORDER = ("L00.self_attn", "L00.mlp", "L00.layer_out", "L01.mlp")


def record(boundary, verdict, mode="accumulated", **changes):
    plain = Record(
        boundary=boundary,
        mode=mode,
        phase="prefill",
        step=0,
        user=0,
        verdict=verdict,
        floor_rel_l2=0.01,
        module="",
        reference_path="",
        dtype="",
        adapters=(),
        engine="",
        seconds=0.0,
        **without_metrics((4, 4)),
    )
    return dataclasses.replace(plain, **changes)


def verdicts(accumulated, isolated, inherited=()):
    records = [record(name, verdict) for name, verdict in zip(ORDER, accumulated, strict=True)]
    alone = [record(name, verdict, "isolated") for name, verdict in zip(ORDER, isolated, strict=True)]
    given = verdicts_of(records, [*alone, *inherited], HOLDERS, {})
    return [given.get(each.key, each.verdict) for each in records]


def test_what_errs_alone_is_injected_and_what_follows_inherits():
    assert verdicts(["ok", "diverged", "diverged", "diverged"], ["ok", "injected", "ok", "ok"]) == [
        "ok",
        "injected",
        "inherited",
        "inherited",
    ]


def test_an_error_that_no_module_made_stays_open_at_its_first_place():
    assert verdicts(["ok", "diverged", "diverged", "ok"], ["ok", "ok", "ok", "ok"]) == [
        "ok",
        "diverged",
        "inherited",
        "ok",
    ]


def test_a_layers_wiring_reaches_the_modules_in_it():
    assert verdicts(["ok", "diverged", "diverged", "diverged"], ["ok", "ok", "injected", "ok"]) == [
        "ok",
        "inherited",
        "injected",
        "inherited",
    ]


def test_an_error_that_grows_in_a_sound_module_is_amplified():
    grown = record("L01.mlp", "ok", "inherited", rel_l2=AMPLIFIES * 0.1 + 0.01, input_rel_l2=0.1)
    passed_on = record("L00.layer_out", "ok", "inherited", rel_l2=0.1, input_rel_l2=0.1)
    given = verdicts(["ok", "diverged", "diverged", "diverged"], ["ok", "injected", "ok", "ok"], [grown, passed_on])
    assert given == ["ok", "injected", "inherited", "amplified"]


def test_what_holds_its_gate_keeps_its_verdict():
    assert verdicts(["ok", "floor", "ok", "ok"], ["injected", "ok", "ok", "ok"]) == ["ok", "floor", "ok", "ok"]


def test_rounding_that_sound_modules_pass_on_is_no_fault():
    came = [record(name, "ok", "inherited", rel_l2=0.1, input_rel_l2=0.1) for name in ORDER]
    records = [record("L00.self_attn", "ok", rel_l2=0.09), record("L00.mlp", "diverged", rel_l2=0.12)]
    alone = [record(name, "ok", "isolated") for name in ORDER]
    assert verdicts_of(records, [*alone, *came], HOLDERS, {}) == {records[1].key: "inherited"}


def test_an_input_that_is_worse_than_all_before_it_came_from_between_modules():
    came = [record("L00.mlp", "ok", "inherited", rel_l2=0.9, input_rel_l2=0.9)]
    records = [record("L00.self_attn", "ok", rel_l2=0.09), record("L00.mlp", "diverged", rel_l2=0.9)]
    alone = [record(name, "ok", "isolated") for name in ORDER]
    assert verdicts_of(records, [*alone, *came], HOLDERS, {}) == {records[1].key: "diverged"}


def test_a_cache_inherits_with_the_module_that_fills_it():
    came = [record("L01.self_attn", "ok", "inherited", rel_l2=0.1, input_rel_l2=0.1)]
    records = [record("L00.mlp", "ok", rel_l2=0.1), record("L01.v_cache", "diverged", rel_l2=0.15)]
    alone = [record("L01.v_cache", "ok", "isolated")]
    filled_by = {"L01.v_cache": "L01.self_attn"}
    assert verdicts_of(records, [*alone, *came], HOLDERS, filled_by) == {records[1].key: "inherited"}


def test_a_tie_between_experts_is_nobodys_fault_and_what_follows_inherits():
    records = [record(name, verdict) for name, verdict in zip(ORDER, ["ok", *["diverged"] * 3], strict=True)]
    alone = [record(name, "ok", "isolated") for name in ORDER]
    tied = {dataclasses.replace(records[1].key, mode="")}
    given = verdicts_of(records, alone, HOLDERS, {}, tied)
    assert [given.get(each.key, each.verdict) for each in records] == ["ok", "amplified", "inherited", "inherited"]
    alone[1] = record("L00.mlp", "injected", "isolated")
    assert verdicts_of(records, alone, HOLDERS, {}, tied)[records[1].key] == "injected"
