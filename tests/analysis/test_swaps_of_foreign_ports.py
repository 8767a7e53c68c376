# SPDX-License-Identifier: Apache-2.0
"""Swaps in a model that knows nothing of tttdebug: last tiles, freed inputs, paged caches, prompts read together."""

import pytest
import torch

import tttdebug as td
from analysis.swap_ports import PROMPTS, small_reference
from tttdebug.analysis.bisection import bisect
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.smallest_set import smallest_set
from tttdebug.analysis.swaps import damage, recover
from tttdebug.emulator import install
from tttdebug.errors import AnalysisError

TOGETHER = [list(range(first, first + 37)) for first in (3, 50, 80)]


@pytest.fixture(scope="module")
def ttnn():
    with install("fast") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def driven(ttnn):
    import drive_ttt_llama

    return drive_ttt_llama


@pytest.fixture(scope="module")
def reference():
    return small_reference(num_hidden_layers=3)


@pytest.fixture
def port(driven, reference, ttnn):
    port = driven.build(reference.model, ttnn.open_device(device_id=0))
    feed_forward = port.layers[1].feed_forward
    feed_forward.w1, feed_forward.w3 = feed_forward.w3, feed_forward.w1
    return port


def free_run(driven, port, reference, prompts=PROMPTS, **options):
    how = {"prefill": driven.prefill, "decode": driven.decode} | options
    return FreeRun(td.track(port, reference, prompts, 2, **how).subject)


@pytest.mark.parametrize("together", [False, True])
def test_the_fault_is_found_and_swapped(driven, port, reference, together):
    run = free_run(driven, port, reference, TOGETHER if together else PROMPTS, together=together)
    assert run.answers_hold
    assert recover(run, ["L01.mlp"]).share_above_floor > 0.95
    assert damage(run, ["L01.mlp"]).share == pytest.approx(1, abs=0.1)
    for boundary in ("L02.self_attn", "final_norm", "logits"):  # the last two see the last tile alone
        assert abs(recover(run, [boundary]).share) < 0.05, boundary
        assert abs(damage(run, [boundary]).share) < 0.05, boundary
    assert bisect(run).boundary == "L01.mlp"
    assert [swap.boundaries for swap in smallest_set(run)] == [("L01.mlp",)]


def test_a_fault_of_decode_steps_is_recovered_by_the_attention_it_is_in(driven, port, reference):
    """In decode the reference's attention reads the keys that it made itself of the port's prompt."""
    feed_forward = port.layers[1].feed_forward
    feed_forward.w1, feed_forward.w3 = feed_forward.w3, feed_forward.w1
    port.layers[0].attention.decode_forward = turning_wrongly(port.layers[0].attention)
    run = free_run(driven, port, reference)
    assert run.metric.kl > 2 * run.floor.kl
    assert recover(run, ["L00.self_attn"]).after.kl < run.metric.kl / 2
    assert recover(run, ["L01.self_attn"]).after.kl > 0.7 * run.metric.kl
    assert bisect(run).boundary == "L00.self_attn"


def turning_wrongly(attention):
    """Its decode step with sines for cosines."""
    own = attention.decode_forward

    def decode_forward(x, current_pos, rot_mats, page_table=None):
        cos, sin, turn = rot_mats
        return own(x, current_pos, [sin, cos, turn], page_table=page_table)

    return decode_forward


def test_where_prompts_are_read_in_turn_within_one_prefill_a_swap_says_that_it_cannot(driven, port, reference):
    def one_by_one(port, token_ids):
        return torch.cat([driven.prefill(port, ids[None]) for ids in token_ids])

    run = free_run(driven, port, reference, TOGETHER, prefill=one_by_one, together=True)
    with pytest.raises(AnalysisError, match=r"L01.mlp#2 cannot be swapped: the reference made no such call"):
        recover(run, ["L01.mlp"])


def test_outputs_that_lie_on_several_devices_are_not_swapped(driven, reference, ttnn):
    port = driven.build(reference.model, ttnn.open_mesh_device(ttnn.MeshShape(1, 2)))

    def prefill(port, token_ids):
        ids = torch.nn.functional.pad(token_ids, (0, 128 - token_ids.shape[1]))
        x = port.embedding.forward(driven.integers(port, ids, ttnn.uint32))
        return port.prefill_forward(x, port.rope_setup.prefill_forward(0, 128), page_table=driven.page_table(port))

    run = FreeRun(td.track(port, reference, PROMPTS[:1], 0, prefill=prefill).subject)
    with pytest.raises(AnalysisError, match=r"L01.mlp cannot be swapped: .* on 2 devices"):
        recover(run, ["L01.mlp"])
