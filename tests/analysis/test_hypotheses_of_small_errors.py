# SPDX-License-Identifier: Apache-2.0
"""Causes whose error is small, or lies in one part: kernels at other settings, formats, functions, parts of weights."""

from dataclasses import replace

import pytest
import torch
from emulated_calls import built as built_from
from emulated_calls import call_of, run, step_of, with_config, with_output, with_spec, with_weights

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses import NOTHING, Change, Hypothesis, rel_l2, search
from tttdebug.analysis.hypotheses.bench import Bench
from tttdebug.analysis.module_call import KeysValues
from tttdebug.modules.hardware import HIFI4, SDPA_EXACT
from tttdebug.specs import AttentionSpec, EmbeddingSpec, FeedForwardSpec, NormSpec, RopeSpec

ATTENTION = AttentionSpec(256, 4, 2, head_dim=64)
PLAIN = FeedForwardSpec(256, 512, activation="gelu")
GATED = FeedForwardSpec(256, 512)
NORM = NormSpec(256)
LOFI = replace(HIFI4, math_fidelity="LoFi")


def with_block(name, dim, start, fill):
    def change(weights):
        changed = weights[name].clone()
        part = changed.narrow(dim, start, 32)
        part.copy_(fill(part))
        return weights | {name: changed}

    return with_weights(change)


def garbage(part):
    return 3 * part.std() * torch.randn(part.shape, generator=torch.Generator().manual_seed(7))


def fast_gelu(spec, weights, hw_config, x_TD):
    port = built_from(spec, weights, hw_config)
    accurate, ttnn = port.ttnn.gelu, port.ttnn

    class Fast:
        def __getattr__(self, name):
            return getattr(ttnn, name)

        def gelu(self, x, **others):
            return accurate(x, fast_and_approximate_mode=True)

    port.ttnn = Fast()
    return run(port, x_TD)


def packed(dtype):
    from tttdebug.emulator.formats import FORMATS

    return with_output(lambda out: FORMATS[dtype].pack(out, precise=dtype == "bfloat8_b").float())


FAULTS = {
    "norm at LoFi": (NORM, with_config(norms=LOFI), "fidelity_low", "the norm runs at LoFi"),
    "attention at LoFi": (
        ATTENTION,
        with_config(sdpa_prefill=replace(SDPA_EXACT, math_fidelity="LoFi")),
        "fidelity_low",
        "weights with values, at LoFi",
    ),
    "fast gelu": (PLAIN, fast_gelu, "approximate_exp", "straight lines"),
    "output in bfloat8_b": (NORM, packed("bfloat8_b"), "cast_low", "the output is kept in bfloat8_b"),
    "output in bfloat4_b": (GATED, packed("bfloat4_b"), "cast_low", "the output is kept in bfloat4_b"),
    "rolled channels": (GATED, with_output(lambda out: out.roll(3, 1)), "channels_permuted", "moved on by 3"),
    "another gain": (
        NORM,
        with_weights(lambda weights: {"weight": weights["weight"].flip(0)}),
        "weight_stale",
        "another gain",
    ),
    "rows of w3": (GATED, with_block("w3", 0, 64, garbage), "weight_block_bad", "rows 64..95 of w1 or w3"),
    "rows of wv": (ATTENTION, with_block("wv", 0, 96, garbage), "weight_block_bad", "rows 96..127 of wv"),
    "columns of w2": (GATED, with_block("w2", 1, 256, garbage), "weight_block_bad", "columns 256..287 of w2"),
    "llama3 scaling": (
        replace(ATTENTION, rope=RopeSpec()),
        with_spec(rope=RopeSpec(scaling="llama3", factor=8.0, original_max_position=64)),
        "rope_scaling",
        "llama3 by 8 from 64",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_first(name):
    spec, fault, cause, words = FAULTS[name]
    diagnosis = search(call_of(spec, faulty=fault, precision="bf16"), at_fault=True)
    assert diagnosis.confirmed, [(trial.says, trial.rel_l2) for trial in diagnosis.nearest]
    best = diagnosis.confirmed[0]
    assert (best.cause, words in best.says) == (cause, True), best.says


def test_what_is_near_the_floor_is_searched_only_where_the_module_is_known_to_err():
    call = call_of(NORM, faulty=packed("bfloat8_b"), precision="bf16")
    call = replace(call, floor_rel_l2=rel_l2(call.port_TC, call.reference_TC))
    assert search(call).confirmed == ()
    assert search(call, at_fault=True).confirmed[0].cause == "cast_low"


def test_a_sound_module_that_is_said_to_err_is_not_explained():
    for spec in (ATTENTION, GATED, NORM):
        assert search(call_of(spec, precision="bf16"), at_fault=True).confirmed == ()


def test_a_rope_that_no_spec_allows_is_passed_over():
    yarn = RopeSpec(scaling="yarn", factor=4.0, original_max_position=64, beta_slow=0.5)
    call = call_of(replace(ATTENTION, rope=yarn), faulty=with_spec(rope=RopeSpec()), precision="bf16")
    best = search(call).confirmed[0]
    assert (best.cause, "left out" in best.says) == ("rope_scaling", True)


def test_an_embedding_whose_counterpart_begins_behind_the_look_up():
    spec = EmbeddingSpec(200, 128, learned_positions=128)

    def without_positions(spec, weights, hw_config, ids_T):
        return run(built_from(replace(spec, learned_positions=None), {"weight": weights["weight"]}, hw_config), ids_T)

    call = call_of(spec, faulty=without_positions, precision="bf16")
    summed = replace(call, input_TD=call.reference_TC)
    assert rel_l2(NOTHING.predict(summed), NOTHING.predict(call)) == 0.0
    best = search(summed).confirmed[0]
    assert (best.cause, best.says) == ("weight_missing", "learned positions are not added")


def in_neighbours(keys_KPE):
    return keys_KPE.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def test_a_cache_of_neighbours_that_turn_together_is_read_in_halves():
    call = step_of(ATTENTION)
    heads = Bench.of(call).heads
    own = KeysValues(heads.keys_KSE[:, -1:], heads.values_KSE[:, -1:])
    turned = replace(
        call,
        past=KeysValues(in_neighbours(call.past.keys_KPE), call.past.values_KPE),
        reference_fresh=KeysValues(in_neighbours(own.keys_KPE), own.values_KPE),
    )
    assert torch.equal(NOTHING.predict(turned), NOTHING.predict(call))


def test_what_stands_in_the_place_of_an_unwritten_token_is_taken_from_the_cache():
    left = KeysValues(*(torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(i)) for i in (1, 2)))
    steps = {"own_written": False, "own_found": left}
    call = step_of(ATTENTION, before=6)
    port_TC = Hypothesis((Change("unknown", "", Fix(""), steps=steps),)).predict(call).bfloat16().float()
    confirmed = search(replace(call, port_TC=port_TC, port_fresh=left)).confirmed
    assert [trial.cause for trial in confirmed[:2]] == ["kv_stale", "kv_position"]
    before = KeysValues(call.past.keys_KPE[:, -1:], call.past.values_KPE[:, -1:])
    steps = {"own_written": False, "own_found": before}
    port_TC = Hypothesis((Change("unknown", "", Fix(""), steps=steps),)).predict(call).bfloat16().float()
    confirmed = search(replace(call, port_TC=port_TC, port_fresh=before)).confirmed
    assert (confirmed[0].cause, "ahead" in confirmed[0].says) == ("kv_position", True)
