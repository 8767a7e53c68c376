# SPDX-License-Identifier: Apache-2.0
"""Swapping modules of the two sides: the faulty one's swap mends the port, and breaks the reference alike."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import tttdebug as td
from analysis.swap_ports import LAYERS, PROMPTS, logits_of, port_with, small_reference, subject_of
from tttdebug.analysis.bisection import bisect
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.swaps import damage, rank, recover, shares
from tttdebug.errors import AnalysisError
from tttdebug.reporting.swap_table import swap_table


@pytest.fixture(scope="module")
def reference():
    return small_reference()


@pytest.fixture(scope="module")
def faulty(reference):
    """A port whose gate and up are exchanged in layer 2, run over two prompts."""
    return FreeRun(subject_of(port_with(reference, 2), reference, PROMPTS, steps=2))


def test_the_reference_in_place_of_the_faulty_module_recovers_the_error_above_the_floor(faulty):
    swap = recover(faulty, ["L02.mlp"])
    assert swap.before == faulty.metric
    assert swap.before.kl > 20 * faulty.floor.kl
    assert swap.share_above_floor > 0.98
    assert swap.after.kl < 3 * faulty.floor.kl
    assert swap.before.positions == swap.after.positions == swap.floor.positions == sum(map(len, PROMPTS)) + 2 * 2


def test_the_faulty_module_in_the_reference_brings_the_error_with_it(faulty):
    assert damage(faulty, ["L02.mlp"]).share == pytest.approx(1, abs=0.1)
    assert damage(faulty, ["L03.mlp"]).share < 0.01


def test_sound_modules_account_for_nothing(faulty):
    for boundary in ("embed", "L02.self_attn", "L03.mlp", "final_norm", "logits"):
        assert abs(recover(faulty, [boundary]).share) < 0.05, boundary


def test_a_layer_recovers_what_its_faulty_part_does(faulty):
    assert recover(faulty, ["L02.layer_out"]).share == pytest.approx(recover(faulty, ["L02.mlp"]).share, abs=0.02)


def test_the_faulty_module_is_ranked_first_and_what_cannot_be_swapped_is_named(faulty):
    for swap in (recover, damage):
        ranking = rank(faulty, ["L03.mlp", "L02.mlp", "L02.k_cache", "embed"], swap)
        assert ranking[0].boundaries == ("L02.mlp",)
        assert len(ranking) == 3
        assert ranking.not_swapped.keys() == {"L02.k_cache"}
        assert "no modules were compared at 'L02.k_cache'" in ranking.not_swapped["L02.k_cache"]


def test_with_all_modules_swapped_only_what_lies_between_them_errs(faulty):
    whole = recover(faulty, faulty.layouts)
    assert whole.after.kl < faulty.floor.kl / 2
    assert whole.share_above_floor > 1


@settings(max_examples=12)
@given(st.integers(0, LAYERS - 1), st.sampled_from(["self_attn", "mlp", "input_norm", "post_attn_norm", "layer_out"]))
def test_without_number_formats_a_sound_module_and_the_references_are_one(exact, layer, part):
    """In decode too, where attention reads the keys that it made of the port's inputs before."""
    boundary = f"L{layer:02d}.{part}"
    swap = recover(exact, [boundary])
    if boundary in ("L01.mlp", "L01.layer_out"):
        assert swap.after.kl < 1e-5
    else:
        assert swap.after.kl == pytest.approx(swap.before.kl, rel=1e-3)


@pytest.fixture(scope="module")
def exact(reference):
    return FreeRun(subject_of(port_with(reference, 1, engine="ideal"), reference, PROMPTS, steps=2))


def test_damage_by_several_modules_is_that_of_the_port_that_has_no_others(exact):
    """All of them together are the port itself."""
    whole = damage(exact, [f"L{layer:02d}.layer_out" for layer in range(LAYERS)])
    assert whole.after.kl == pytest.approx(exact.metric.kl, rel=1e-3)


def test_the_port_and_the_reference_are_left_as_they_were(reference):
    port = port_with(reference, 2)
    subject = subject_of(port, reference)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in reference.model.modules()]
    names = [set(vars(layer.feed_forward)) for layer in port.layers]
    before = logits_of(port)
    run = FreeRun(subject)
    recover(run, ["L02.mlp", "L03.self_attn"])
    damage(run, ["L02.self_attn", "L03.mlp"])
    after = logits_of(port)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert hooks == [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in reference.model.modules()
    ]
    assert names == [set(vars(layer.feed_forward)) for layer in port.layers]


def test_layers_before_the_swapped_one_are_not_computed_again(faulty, monkeypatch):
    """Above all layers a swap in the fourth one computes two, in a prefill and two steps of both prompts."""
    computed = []
    for number, layer in enumerate(faulty.subject.port.layers):

        def rest(x, attended, number=number, own=layer.rest):
            computed.append(number)
            return own(x, attended)

        monkeypatch.setattr(layer, "rest", rest)
    faulty.measured.clear()
    recover(faulty, ["L03.mlp"])
    assert sorted(computed) == [3] * 4 + [4] * 4
    recover(faulty, ["L03.mlp"])
    assert len(computed) == 8  # what was measured is not run again


def test_shares_are_of_the_first_prompt(faulty):
    found = shares(faulty.subject, ["L02.mlp", "L00.self_attn", "L02.v_cache"])
    assert found["L02.mlp"] > 0.9
    assert abs(found["L00.self_attn"]) < 0.05
    assert math.isnan(found["L02.v_cache"])


def test_an_infinite_error_is_gone_or_not(reference):
    def overflow(state):
        state["model.layers.1.mlp.down_proj.weight"][0, 0] = math.inf

    run = FreeRun(subject_of(port_with(reference, change=overflow), reference, steps=0))
    assert math.isinf(run.metric.kl)
    assert recover(run, ["L01.mlp"]).share == recover(run, ["L01.mlp"]).share_above_floor == 1.0
    assert recover(run, ["L02.mlp"]).share == 0
    assert damage(run, ["L01.mlp"]).share == 1


def test_a_module_whose_layout_does_not_fit_is_named_with_both_shapes(reference):
    port = port_with(reference, 2)
    subject = subject_of(port, reference, steps=0)
    run = FreeRun(subject)
    module = port.layers[1].feed_forward
    own, ttnn = module.forward, port.ttnn

    def forward(x):
        out = own(x)
        return ttnn.concat([out, out], dim=-1)

    module.forward = module.prefill_forward = forward
    with pytest.raises(AnalysisError, match=r"L01.mlp cannot be swapped: .*192\).*96\).*swap the module around it"):
        recover(run, ["L01.mlp"])


def test_where_one_module_alone_was_compared_it_is_swapped_in_a_whole_run(reference):
    port = port_with(reference, 2)
    pairs = {"L02.mlp": ("layers.2.feed_forward", "model.layers.2.mlp")}
    run = FreeRun(td.track(port, reference, PROMPTS[:1], 1, pairs=pairs).subject)
    assert not run.answers_hold
    assert recover(run, ["L02.mlp"]).share_above_floor > 0.95
    assert damage(run, ["L02.mlp"]).share == pytest.approx(1, abs=0.1)
    assert bisect(run).boundary == "L02.mlp"


def test_a_port_that_is_not_repeatable_runs_whole_and_says_so(reference, monkeypatch):
    port = port_with(reference, 2)
    subject = subject_of(port, reference, steps=0)
    own, calls = port.lm_head.forward, []

    def unsteady(x):
        calls.append(x)
        return own(port.ttnn.multiply(x, 1 + 0.01 * len(calls)))

    monkeypatch.setattr(port.lm_head, "forward", unsteady)
    run = FreeRun(subject)
    assert not run.answers_hold
    assert "it is not repeatable" in run.notes[0]
    assert recover(run, ["L02.mlp"]).share > 0.5
    with pytest.raises(AnalysisError, match="cannot be begun at L0"):
        bisect(run)


def test_the_table_names_swaps_and_what_was_left_out(faulty):
    ranking = rank(faulty, ["L02.mlp", "L03.mlp", "nothing"])
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(swap_table(ranking, ranking.not_swapped))
    text = console.export_text()
    assert "its number formats alone" in text
    assert text.index("L02.mlp") < text.index("L03.mlp") < text.index("not swapped: no modules were compared at")
