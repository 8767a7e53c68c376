# SPDX-License-Identifier: Apache-2.0
"""Causes that no module of the emulator's can have: the port gives what changed mathematics gives, in bfloat16."""

import itertools

import pytest
import torch
from emulated_calls import input_for, weights_for
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.analysis.causes import CAUSES
from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses import NOTHING, Bench, Change, search
from tttdebug.analysis.hypotheses.catalogue import STAGES
from tttdebug.analysis.hypotheses.fitting import best_near, best_on_a_log_scale
from tttdebug.analysis.hypotheses.orders import best_order, columns_in_order, likeness, rows_in_order
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.specs import AttentionSpec, DecoderLayerSpec, FeedForwardSpec, LMHeadSpec, NormSpec
from tttdebug.tracking.record import Key

ATTENTION = AttentionSpec(256, 8, 2, head_dim=32)
LAYER = DecoderLayerSpec(AttentionSpec(64, 2), FeedForwardSpec(64, 128), NormSpec(64), NormSpec(64))


def call_of(spec, kind, x_TD, weights, **more):
    return ModuleCall(Key("L01.x"), kind, spec, weights, {}, x_TD, x_TD, x_TD, 0.005, torch.arange(len(x_TD)), **more)


def given_by(call, **change):
    """The call with what the module gives under a change, rounded."""
    import dataclasses

    reference_TC = NOTHING.predict(call)
    call = dataclasses.replace(call, reference_TC=reference_TC)
    port_TC = NOTHING.plus(Change("unknown", "", Fix(""), **change)).predict(call)
    return dataclasses.replace(call, port_TC=port_TC.bfloat16().float())


@pytest.mark.parametrize(
    ("steps", "cause", "words"),
    [
        ({"mask": "none"}, "mask_missing", "there is no mask"),
        ({"mask_shift": -1}, "mask_wrong", "does not see its own"),
        ({"mask_shift": 1}, "mask_wrong", "sees the position after"),
        ({"padding_keys": 32}, "padding_keys", "32 padding keys"),
        ({"padding_keys": 77}, "padding_keys", "77 padding keys"),
        ({"kv_of_query": "tiled"}, "gqa_repeat", "h % 2"),
        ({"kv_of_query": (0, 0, 0, 1, 0, 1, 1, 1)}, "gqa_repeat", "0, 0, 0, 1"),
        ({"turns_queries": False}, "rope_missing", "queries are not turned"),
        ({"turns_keys": False}, "rope_missing", "keys are not turned"),
        ({"query_shift": 1}, "position_offset", "off by +1"),
        ({"key_shift": -2}, "position_offset", "off by +2"),
        ({"head_order": (1, 0, 3, 2, 5, 4, 7, 6)}, "shard_order", "8 shards of wo's columns"),
    ],
)
def test_steps_of_attention(steps, cause, words):
    call = given_by(call_of(ATTENTION, "attention", input_for(ATTENTION), weights_for(ATTENTION)), steps=steps)
    diagnosis = search(call)
    assert diagnosis.confirmed, [(trial.says, trial.rel_l2) for trial in diagnosis.nearest]
    best = diagnosis.confirmed[0]
    assert (best.cause, words in best.says) == (cause, True), best.says


@pytest.mark.parametrize(
    ("times_input", "times", "cause", "words"),
    [
        (
            *(0.0, {}, "residual_missing"),
            "the residual is not added to self_attn's output: the layer's output lacks the layer's input",
        ),
        (
            *(2.0, {}, "residual_doubled"),
            "the residual is added twice to self_attn's output: the layer's output holds the layer's input 2 times",
        ),
        (1.0, {"mlp": 0.0}, "residual_missing", "mlp's output is not added to the residual"),
        (1.0, {"self_attn": 2.0}, "residual_doubled", "self_attn's output is added twice to the residual"),
        (
            *(0.0, {"self_attn": 0.0}, "residual_missing"),
            "the residual is not added to mlp's output: the layer's output lacks the layer's input and self_attn's "
            "output",
        ),
        (1.0, {"mlp": 0.22}, "scaled", "mlp's output is added 0.2"),
    ],
)
def test_residuals_of_a_layer(times_input, times, cause, words):
    x_TD = input_for(LAYER.attention, 48)
    parts = {
        name: input_for(LAYER.attention, 48, seed) for seed, name in enumerate(("input_norm", "self_attn", "mlp"), 5)
    }
    call = call_of(LAYER, "layer", x_TD, {}, parts=parts)
    best = search(given_by(call, steps={"times_input": times_input, "times": times})).confirmed[0]
    assert (best.cause, words in best.says) == (cause, True), best.says


def test_a_layer_whose_branches_are_not_known_is_judged_by_its_output():
    call = call_of(LAYER, "layer", input_for(LAYER.attention, 48), {})
    best = search(given_by(call, output=lambda out_TC, call: 3.0 * out_TC)).confirmed[0]
    assert best.cause == "scaled"


def test_a_module_that_no_family_knows_is_judged_by_its_output():
    call = call_of(None, "other", input_for(LAYER.attention, 48), {})
    best = search(given_by(call, output=lambda out_TC, call: out_TC[:, list(reversed(range(64)))])).confirmed[0]
    assert (best.cause, "reversed" in best.says) == ("channels_permuted", True)


def test_a_head_over_a_large_vocabulary_is_judged_by_part_of_it():
    spec = LMHeadSpec(64, 20000, logit_softcap=3.0)
    call = call_of(spec, "lm_head", input_for(spec, 32), weights_for(spec))
    call = given_by(call, spec=lambda spec: LMHeadSpec(64, spec.vocab_size, padded_vocab_size=spec.padded_vocab_size))
    best = search(call).confirmed[0]
    assert best.cause == "softcap"
    assert best.hypothesis.predict(call).shape == (32, 20000)


def test_a_long_prompt_is_judged_by_part_of_its_tokens():
    call = given_by(
        call_of(ATTENTION, "attention", input_for(ATTENTION, 1100), weights_for(ATTENTION)), steps={"query_shift": 1}
    )
    assert search(call).confirmed[0].cause == "position_offset"


def test_every_change_names_a_cause_and_says_what_to_do():
    for spec, kind in ((ATTENTION, "attention"), (FeedForwardSpec(64, 128), "feed_forward"), (NormSpec(64), "norm")):
        call = given_by(
            call_of(spec, kind, input_for(spec), weights_for(spec)), output=lambda out_TC, call: out_TC.flip(0)
        )
        changes = [change for source in itertools.chain(*STAGES) for change in source(Bench.of(call))]
        assert changes
        assert all(change.cause in CAUSES and change.says and change.fix.says for change in changes)
    with pytest.raises(ValueError, match="is no cause"):
        Change("gremlins", "", Fix(""))


@settings(deadline=None)
@given(st.permutations(range(8)), st.integers(0, 2**16))
def test_an_order_is_found_and_applied(order, seed):
    weight = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
    for reorder, parts in ((rows_in_order, lambda w: w.view(8, -1)), (columns_in_order, lambda w: w.T.reshape(8, -1))):
        found = best_order(likeness(parts(reorder(order, 8)(weight)), parts(weight)))
        assert found == (None if order == sorted(order) else tuple(order))


@given(st.floats(1e-3, 1e3))
def test_a_fit_finds_the_least_error(best):
    def error(value):
        return abs(torch.tensor(value / best).log().item())

    assert best_on_a_log_scale(error, 1e-4, 1e4, 9) == pytest.approx(best, rel=0.02)
    assert best_near(error, (best / 2, best * 1.5), 3.0) == pytest.approx(best, rel=0.02)
