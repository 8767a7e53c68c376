# SPDX-License-Identifier: Apache-2.0
"""Bisection names the layer and the module, and the smallest set of modules holds each fault once."""

import io

import pytest
import torch
from rich.console import Console

from analysis.swap_ports import LAYERS, PROMPTS, port_with, small_reference, subject_of
from tttdebug.analysis.bisection import bisect
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.smallest_set import smallest_set
from tttdebug.analysis.swaps import recover
from tttdebug.errors import AnalysisError
from tttdebug.reporting.swap_table import bisection_table


@pytest.fixture(scope="module")
def reference():
    return small_reference()


def free_run(reference, *layers, change=None, steps=1):
    return FreeRun(subject_of(port_with(reference, *layers, change=change), reference, steps=steps))


@pytest.fixture(scope="module")
def twice_faulty(reference):
    return free_run(reference, 1, 4)


@pytest.mark.parametrize("layer", [0, 2, LAYERS - 1])
def test_one_fault_is_found_in_its_layer_and_is_the_smallest_set(reference, layer):
    run = free_run(reference, layer)
    found = bisect(run)
    assert (found.unit, found.boundary) == (f"L{layer:02d}", f"L{layer:02d}.mlp")
    assert found.drop > 0.9
    assert found.monotone
    assert not found.not_swapped
    assert [swap.boundaries for swap in smallest_set(run)] == [(f"L{layer:02d}.mlp",)]


def test_a_bisection_takes_a_logarithm_of_runs(reference):
    run = free_run(reference, 2)
    found = bisect(run)
    units, modules = len(run.units), len(found.modules)
    assert (units, modules) == (LAYERS + 3, 5)
    assert len(run.measured) <= units.bit_length() + modules
    assert found.curve[0].begins_at == "embed"


def twice_the_embedding(state):
    state["model.embed_tokens.weight"] *= 1.5


def other_head(state):
    state["lm_head.weight"] = state["lm_head.weight"].roll(1, 0)


def other_final_norm(state):
    state["model.norm.weight"] = state["model.norm.weight"].flip(0)


def other_output_projection(state):
    name = "model.layers.3.self_attn.o_proj.weight"
    state[name] = state[name].flip(0)


@pytest.mark.parametrize(
    ("change", "unit", "boundary"),
    [
        (twice_the_embedding, "embed", "embed"),
        (other_output_projection, "L03", "L03.self_attn"),
        (other_final_norm, "final_norm", "final_norm"),
        (other_head, "logits", "logits"),
    ],
)
def test_faults_of_other_kinds_are_found_where_they_are(reference, change, unit, boundary):
    found = bisect(free_run(reference, change=change))
    assert (found.unit, found.boundary) == (unit, boundary)
    assert found.drop > 0.8


def test_two_faults_give_a_set_of_two(twice_faulty):
    first, both = smallest_set(twice_faulty)
    assert set(both.boundaries) == {"L01.mlp", "L04.mlp"}
    assert first.boundaries == both.boundaries[:1]
    assert first.share_above_floor < 0.9 <= both.share_above_floor


def test_less_to_recover_takes_fewer_modules(twice_faulty):
    only = max((recover(twice_faulty, [f"L0{layer}.mlp"]) for layer in (1, 4)), key=lambda swap: swap.share)
    (found,) = smallest_set(twice_faulty, recovers=only.share_above_floor * 0.95)
    assert found.boundaries == only.boundaries


def test_the_second_fault_is_found_once_the_first_is_known(twice_faulty):
    found = bisect(twice_faulty)
    other = bisect(twice_faulty, [found.boundary])
    assert {found.boundary, other.boundary} == {"L01.mlp", "L04.mlp"}


def test_of_candidates_the_needless_ones_are_left_out(twice_faulty):
    swaps = smallest_set(twice_faulty, candidates=["L00.mlp", "L04.mlp", "L02.self_attn", "L01.mlp"])
    assert set(swaps[-1].boundaries) == {"L01.mlp", "L04.mlp"}


def test_candidates_that_do_not_suffice_are_all_taken_and_the_share_says_so(twice_faulty):
    swaps = smallest_set(twice_faulty, candidates=["L04.mlp", "L02.mlp"])
    assert swaps[0].boundaries == ("L04.mlp",)
    assert swaps[-1].share_above_floor < 0.9
    with pytest.raises(AnalysisError, match="no modules were compared at 'L09"):
        smallest_set(twice_faulty, candidates=["L09.mlp"])


def test_faults_that_cancel_are_told(reference):
    """Norm and head are both turned round, so that only the head's other fault shows; a true norm makes it worse."""

    def turn_round(state):
        noise = torch.randn(state["lm_head.weight"].shape, generator=torch.Generator().manual_seed(3))
        state["model.norm.weight"] *= -1
        state["lm_head.weight"] = -state["lm_head.weight"] + 0.05 * noise

    found = bisect(free_run(reference, change=turn_round))
    assert found.unit == "logits"
    assert not found.monotone
    assert "faults cancel" in text_of(found)


def test_where_the_error_is_that_of_number_formats_there_is_nothing_to_find(reference):
    run = FreeRun(subject_of(port_with(reference, engine="ideal"), reference, PROMPTS))
    assert run.metric.kl < run.floor.kl
    with pytest.raises(
        AnalysisError, match="nothing to bisect: in the end the port errs hardly more than its number formats"
    ):
        bisect(run)
    assert smallest_set(run) == ()


def test_the_table_shows_the_curve_and_says_where(twice_faulty):
    found = bisect(twice_faulty)
    text = text_of(found)
    assert all(cut.begins_at in text for cut in found.curve)
    assert f"{found.boundary}: " in text
    assert f"of the final error above the floor arises in {found.unit}" in text


def text_of(found):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(bisection_table(found))
    return console.export_text()
