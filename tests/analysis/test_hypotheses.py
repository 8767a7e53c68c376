# SPDX-License-Identifier: Apache-2.0
"""A module that really runs with a fault on the emulator: the search names the fault, and nothing in a healthy one."""

import functools
from dataclasses import replace

import pytest
import torch
from emulated_calls import (
    built,
    call_of,
    mathematics,
    run,
    weights_for,
    with_config,
    with_output,
    with_spec,
    with_weights,
)

from tttdebug.analysis.hypotheses import rel_l2, search
from tttdebug.modules.hardware import HIFI4, LOFI
from tttdebug.modules.placement import interleave_heads, split_heads_in_halves
from tttdebug.specs import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    NormSpec,
    RopeSpec,
)

GROUPED = AttentionSpec(256, 8, 2, head_dim=32, rope=RopeSpec(theta=100000.0))
BIASED = AttentionSpec(256, 4, 4, qkv_bias=True, output_bias=True, qk_norm=NormSpec(64))
SCALED = AttentionSpec(256, 4, 2, rope=RopeSpec(5e5, "llama3", 8.0, original_max_position=32))
WINDOWED = AttentionSpec(256, 4, 2, sliding_window=40)
GATED = FeedForwardSpec(256, 512)
PLAIN = FeedForwardSpec(256, 512, "gelu", bias=True)
NORM = NormSpec(256)
GEMMA_NORM = NormSpec(256, unit_offset=True)
LAYERNORM = NormSpec(256, norm_type="layernorm", bias=True)
MIXTURE = MixtureOfExpertsSpec(FeedForwardSpec(128, 64), 8, 2, shared_expert=FeedForwardSpec(128, 64))
EMBEDDING = EmbeddingSpec(128, 64, scale=8.0)
POSITIONED = EmbeddingSpec(128, 64, learned_positions=128)
HEAD = LMHeadSpec(128, 256, logit_softcap=2.0)


def parts_in_order(order, dim):
    return lambda w: torch.cat([w.chunk(len(order), dim)[i] for i in order], dim)


def changed(**edits):
    """The port gets those weights changed."""
    return with_weights(lambda w: w | {name: edit(w[name]) for name, edit in edits.items()})


def exchanged(one, other):
    return with_weights(lambda w: w | {one: w[other], other: w[one]})


def zeros(weight):
    return weight * 0.0


def part_alone(device, devices):
    def keep(w):
        return torch.cat([p if i == device else zeros(p) for i, p in enumerate(w.chunk(devices, 1))], 1)

    return keep


def empty_columns(start, end):
    return lambda w: torch.cat([w[:, :start], zeros(w[:, start:end]), w[:, end:]], dim=1)


def with_garbage_in_columns(out_TC):
    return torch.cat([out_TC[:, :64], 5 * torch.randn(len(out_TC), 64), out_TC[:, 128:]], dim=1)


def without_columns(out_TC):
    return torch.cat([out_TC[:, :96], zeros(out_TC[:, 96:128]), out_TC[:, 128:]], dim=1)


@functools.cache
def weights_of_layer(spec, layer):
    return None if layer > 4 else weights_for(spec, layer)


FAULTS = {
    # of norms
    "gain left out": (NORM, changed(weight=torch.ones_like), "norm_gain_missing", ""),
    "gain plus one": (NORM, changed(weight=lambda w: w + 1), "norm_unit_offset", "1 + w where the model means w"),
    "gain less one": (GEMMA_NORM, changed(weight=lambda w: w - 1), "norm_unit_offset", "w where the model means 1 + w"),
    "sum for mean": (NORM, with_output(lambda o: o / 16), "norm_sum_for_mean", "256"),
    "large epsilon": (NORM, with_spec(eps=0.3), "norm_eps", "3e-01"),
    "layernorm for rmsnorm": (
        NORM,
        lambda s, w, h, x: run(built(NormSpec(256, norm_type="layernorm"), w, h), x),
        "norm_mean_kept",
        "",
    ),
    "norm without bias": (LAYERNORM, changed(bias=zeros), "bias_missing", ""),
    # of weights
    "wo transposed": (GROUPED, changed(wo=lambda w: w.T), "weight_transposed", "wo"),
    "w2 reshaped": (GATED, changed(w2=lambda w: w.reshape(512, 256).T), "weight_transposed", "w2"),
    "keys for values": (GROUPED, exchanged("wk", "wv"), "weights_exchanged", "wk and wv"),
    "gate for up": (GATED, exchanged("w1", "w3"), "weights_exchanged", "gate"),
    "another layer": (
        GROUPED,
        with_weights(lambda w: weights_for(GROUPED, 3)),
        "weight_stale",
        "layer 3's wq, wk, wv, wo",
    ),
    "another layer's w2": (
        GATED,
        with_weights(lambda w: w | {"w2": weights_for(GATED, 2)["w2"]}),
        "weight_stale",
        "layer 2's w2",
    ),
    "values not loaded": (GROUPED, changed(wv=zeros), "weight_missing", "wv"),
    "no output bias": (BIASED, changed(bo=zeros), "bias_missing", "bo"),
    "no input biases": (BIASED, changed(bq=zeros, bk=zeros, bv=zeros), "bias_missing", "bq, bk, bv"),
    # of shards and heads
    "one part of four": (GATED, changed(w2=part_alone(1, 4)), "reduce_missing", "device 1's part of 4"),
    "one part of two": (GROUPED, changed(wo=part_alone(0, 2)), "reduce_missing", "device 0's part of 2"),
    "reduced twice": (GROUPED, with_output(lambda o: 2 * o), "reduce_doubled", "2 times"),
    "bias of each device": (BIASED, changed(bo=lambda b: 4 * b), "reduce_doubled", "4 times"),
    "shards of w2": (GATED, changed(w2=parts_in_order([1, 0, 3, 2], 1)), "shard_order", "4 shards of w2's columns"),
    "shards of w3": (GATED, changed(w3=parts_in_order([2, 0, 3, 1], 0)), "shard_order", "4 shards of w3's rows"),
    "shards of wo": (GROUPED, changed(wo=parts_in_order([1, 0], 0)), "shard_order", "2 blocks of 128 channels"),
    "query heads": (
        GROUPED,
        changed(wq=parts_in_order([0, 2, 4, 6, 1, 3, 5, 7], 0)),
        "heads_permuted",
        "query heads of wq",
    ),
    "value heads": (BIASED, changed(wv=parts_in_order([1, 0, 3, 2], 0)), "heads_permuted", "value heads of wv"),
    "columns of w2 empty": (GATED, changed(w2=empty_columns(32, 96)), "weight_block_bad", "columns 32..95 of w2"),
    "columns of wq empty": (GROUPED, changed(wq=empty_columns(32, 64)), "weight_block_bad", "columns 32..63 of wq"),
    # of rotation
    "theta": (GROUPED, with_spec(rope=RopeSpec(theta=10000.0)), "rope_theta", "theta 10000 instead of 100000"),
    "odd theta": (GROUPED, with_spec(rope=RopeSpec(theta=34567.0)), "rope_theta", "3.4"),
    "not turned": (BIASED, with_spec(rope=None), "rope_missing", "queries and keys"),
    "scaling left out": (SCALED, with_spec(rope=RopeSpec(5e5)), "rope_scaling", "llama3"),
    "half-split order": (
        GROUPED,
        changed(**dict.fromkeys(("wq", "wk"), lambda w: split_heads_in_halves(w, 32, 32))),
        "rope_order",
        "half-split",
    ),
    "interleaved order": (
        GROUPED,
        changed(**dict.fromkeys(("wq", "wk"), lambda w: interleave_heads(w, 32, 32))),
        "rope_order",
        "interleaved",
    ),
    # of scores
    "not scaled": (GROUPED, with_spec(scale=1.0), "attention_scale", "not scaled"),
    "another scale": (GROUPED, with_spec(scale=0.5), "attention_scale", "instead of 0.1768"),
    "a window": (GROUPED, with_spec(sliding_window=37), "window", "37"),
    "no window": (WINDOWED, with_spec(sliding_window=None), "window", "no sliding window"),
    "no norm of heads": (BIASED, with_spec(qk_norm=None), "head_norm_missing", "queries and keys"),
    # of feed-forward networks and mixtures
    "gelu for silu": (GATED, with_spec(activation="geglu"), "activation", "gelu"),
    "relu for gelu": (PLAIN, with_spec(activation="relu"), "activation", "relu instead of gelu"),
    "shares not normalised": (MIXTURE, with_spec(normalise_scores=False), "routing", "sum to 1"),
    "sigmoid router": (MIXTURE, with_spec(router_scoring="sigmoid"), "routing", "sigmoid instead of a softmax"),
    "no shared expert": (MIXTURE, with_spec(shared_expert=None), "weight_missing", "shared expert"),
    # of ends
    "embedding not scaled": (EMBEDDING, with_spec(scale=None), "embedding_scale", "not multiplied by its scale 8"),
    "positions off by one": (POSITIONED, changed(positions=lambda w: w.roll(-1, 0)), "position_offset", "+1"),
    "logits not capped": (HEAD, with_spec(logit_softcap=None), "softcap", "not capped at 2"),
    # of places and values
    "halved": (GATED, with_output(lambda o: 0.7 * o), "scaled", "times what it should be"),
    "shifted": (GATED, with_output(lambda o: o + 0.5), "offset", "plus 0.5"),
    "tokens rolled": (GATED, with_output(lambda o: o.roll(1, 0)), "tokens_permuted", "moved on by 1"),
    "empty columns": (GATED, with_output(without_columns), "block_bad", "columns 96..127 are zeros"),
    "garbage in columns": (GATED, with_output(with_garbage_in_columns), "block_bad", "columns 64..127 are wrong"),
    # of number formats
    "bfloat4_b for w2": (GATED, with_config(ff2="bfloat4_b"), "cast_low", "w2 is kept in bfloat4_b"),
    "LoFi": (GROUPED, with_config(li_qkv=replace(HIFI4, math_fidelity="LoFi")), "fidelity_low", "LoFi"),
}


@pytest.mark.parametrize("precision", ["bf16", "accuracy"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_first(name, precision):
    spec, fault, cause, words = FAULTS[name]
    others = functools.partial(weights_of_layer, spec)
    call = call_of(spec, faulty=fault, precision=precision, layer=0, weights_of_layer=others)
    diagnosis = search(call)
    assert diagnosis.confirmed, [(trial.says, trial.rel_l2) for trial in diagnosis.nearest]
    best = diagnosis.confirmed[0]
    assert (best.cause, words in best.says) == (cause, True), best.says
    assert best.at_floor
    assert best.experiment.before == diagnosis.before > best.experiment.after == best.rel_l2
    assert rel_l2(call.port_TC, best.hypothesis.predict(call)) == pytest.approx(best.rel_l2, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
@pytest.mark.parametrize("spec", [NORM, GEMMA_NORM, LAYERNORM, GROUPED, BIASED, GATED, PLAIN, MIXTURE, EMBEDDING, HEAD])
def test_nothing_is_confirmed_in_a_healthy_module(spec, precision):
    diagnosis = search(call_of(spec, precision=precision))
    assert diagnosis.confirmed == ()
    assert diagnosis.before <= 1.5 * diagnosis.floor


def test_noise_that_no_change_explains_is_not_explained():
    torch.manual_seed(0)
    call = call_of(GROUPED, faulty=with_output(lambda o: o + 0.3 * o.std() * torch.randn_like(o)))
    diagnosis = search(call)
    assert diagnosis.confirmed == ()
    assert diagnosis.nearest
    assert all(trial.rel_l2 > 0.5 * diagnosis.before for trial in diagnosis.nearest)


def test_two_faults_are_found_together():
    def faulty(spec, weights, hw_config, x_TD):
        return run(built(replace(spec, rope=RopeSpec(1e4)), weights | {"wo": weights["wo"].T}, hw_config), x_TD)

    call = call_of(GROUPED, faulty=faulty)
    says = search(call).confirmed[0].says
    assert "wo is transposed" in says
    assert "rope theta 10000" in says
    assert search(call, combine=False).confirmed == ()


def test_a_coarser_kernel_is_two_changes():
    call = call_of(GATED, faulty=with_config(li_ff1_ff3=LOFI), precision="bf16")
    best = search(call).confirmed[0]
    assert [change.cause for change in best.hypothesis.changes] == ["fidelity_low", "accumulation_low"]


def test_a_confirmed_cause_explains_other_calls_of_the_module():
    fault = with_spec(rope=RopeSpec(theta=20000.0))
    best = search(call_of(GROUPED, faulty=fault, tokens=64)).confirmed[0]
    other = call_of(GROUPED, faulty=fault, tokens=128)
    assert rel_l2(other.port_TC, best.hypothesis.predict(other)) < 0.1 * rel_l2(other.port_TC, mathematics(other))


def test_a_port_that_does_not_say_how_it_keeps_its_weights_is_given_the_benefit():
    faulty = replace(call_of(GROUPED, faulty=with_spec(rope=RopeSpec(theta=10000.0))), formats={})
    assert search(faulty).confirmed[0].cause == "rope_theta"
    assert search(replace(call_of(GROUPED), formats={})).confirmed == ()


def test_no_time_is_no_explanation():
    call = call_of(GATED, faulty=with_spec(activation="geglu"))
    assert search(call, budget_seconds=0.0).confirmed == ()


def test_an_output_that_is_not_finite_has_no_explanation():
    call = call_of(GATED, faulty=with_output(lambda o: o * torch.inf))
    assert search(call).confirmed == ()
