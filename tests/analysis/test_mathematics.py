# SPDX-License-Identifier: Apache-2.0
"""The mathematics of a module is what the port computes when nothing is rounded."""

from dataclasses import replace

import pytest
import torch
from emulated_calls import KINDS, built, input_for, mathematics, past_of, run, weights_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.mathematics import Arithmetic, LayerSteps, Memory, Numbers, default_steps
from tttdebug.analysis.mathematics.layer import branches, residual_sum
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.backends import open_device
from tttdebug.errors import SpecError, WeightsError
from tttdebug.modules import HardwareConfig
from tttdebug.specs import (
    AttentionSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    NormSpec,
    PoolerSpec,
    RopeSpec,
)
from tttdebug.tracking.record import Key

EXACT = 1e-4
LLAMA3 = RopeSpec(theta=5e5, scaling="llama3", factor=8.0, low_freq_factor=1.0, original_max_position=64)
YARN = RopeSpec(scaling="yarn", factor=4.0, original_max_position=64)


@st.composite
def specs(draw):
    """Modules of every kind that the mathematics knows."""
    width = draw(st.sampled_from([64, 96]))
    norm = NormSpec(width, unit_offset=draw(st.booleans()))
    layernorm = NormSpec(width, norm_type="layernorm", bias=True)
    gated = FeedForwardSpec(
        width, 96, draw(st.sampled_from(["swiglu", "geglu", "geglu_tanh", "reglu"])), bias=draw(st.booleans())
    )
    plain = FeedForwardSpec(width, 96, draw(st.sampled_from(["gelu", "relu2", "silu"])))
    kv_heads = draw(st.integers(1, 2))
    attention = AttentionSpec(
        width,
        kv_heads * draw(st.integers(1, 2)),
        kv_heads,
        head_dim=32,
        rope=draw(
            st.sampled_from(
                [RopeSpec(), LLAMA3, YARN, RopeSpec(scaling="linear", factor=2.0), RopeSpec(rotary_dim=16), None]
            )
        ),
        qkv_bias=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        qk_norm=draw(st.sampled_from([None, NormSpec(32)])),
        sliding_window=draw(st.sampled_from([None, 20])),
        scale=draw(st.sampled_from([None, 0.3])),
        max_sequence_length=128,
    )
    mixture = MixtureOfExpertsSpec(
        FeedForwardSpec(width, 32),
        4,
        2,
        draw(st.sampled_from(["softmax", "sigmoid"])),
        normalise_scores=draw(st.booleans()),
        routed_scale=draw(st.sampled_from([1.0, 2.5])),
        shared_expert=FeedForwardSpec(width, 32),
        shared_expert_gate=draw(st.booleans()),
    )
    embedding = EmbeddingSpec(96, width, scale=draw(st.sampled_from([None, 8.0])), learned_positions=80, norm=layernorm)
    head = LMHeadSpec(width, 96, logit_softcap=draw(st.sampled_from([None, 30.0])))
    return draw(st.sampled_from([norm, layernorm, gated, plain, attention, mixture, embedding, head]))


def call_for(spec, x_TD, port_TC, **more):
    positions_T = torch.arange(len(x_TD))
    weights = weights_for(spec)
    return ModuleCall(
        Key("L00.module"), KINDS[type(spec)], spec, weights, {}, x_TD, x_TD, port_TC, 0.0, positions_T, **more
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.sampled_from([32, 64]))
def test_it_equals_a_port_that_rounds_nothing(spec, tokens):
    x_TD = input_for(spec, tokens)
    port = built(spec, weights_for(spec), HardwareConfig.preset("bf16"), open_device("emulated", engine="ideal"))
    given_TC = run(port, x_TD)
    assert rel_l2(given_TC, mathematics(call_for(spec, x_TD, given_TC))) < EXACT


@pytest.mark.parametrize("window", [None, 12])
def test_a_step_behind_a_cache_is_the_last_token_of_the_whole(window):
    spec = AttentionSpec(96, 4, 2, head_dim=32, qk_norm=NormSpec(32), sliding_window=window)
    x_TD = input_for(spec, 40)
    whole = mathematics(call_for(spec, x_TD, x_TD))
    past = past_of(spec, weights_for(spec), x_TD[:-1])
    step = replace(call_for(spec, x_TD[-1:], x_TD[-1:], past=past), positions_T=torch.tensor([39]))
    assert rel_l2(mathematics(step), whole[-1:]) < EXACT


def test_a_layer_is_the_sum_of_its_input_and_its_branches():
    norm = NormSpec(8)
    llama = DecoderLayerSpec(AttentionSpec(8, 2), FeedForwardSpec(8, 16), norm, norm)
    gemma = replace(llama, pre_feed_forward_norm=norm, post_feed_forward_norm=norm)
    x_TD = torch.randn(3, 8)
    names = ("input_norm", "self_attn", "post_attn_norm", "pre_mlp_norm", "mlp", "post_mlp_norm")
    parts = {name: torch.full((3, 8), float(i)) for i, name in enumerate(names)}
    assert set(branches(llama, parts)) == {"self_attn", "mlp"}
    assert set(branches(gemma, parts)) == {"post_attn_norm", "post_mlp_norm"}
    arithmetic = Arithmetic({}, Numbers({}), Memory(x_TD))
    total = residual_sum(arithmetic, x_TD, branches(llama, parts), LayerSteps(times={"mlp": 2.0}))
    assert torch.allclose(total, x_TD + 1.0 + 2 * 4.0)


def test_what_is_missing_is_named():
    spec = FeedForwardSpec(64, 32)
    call = call_for(spec, input_for(spec, 4), torch.zeros(4, 64))
    with pytest.raises(WeightsError, match="'w2'"):
        mathematics(call, {name: weight for name, weight in call.weights.items() if name != "w2"})
    with pytest.raises(SpecError, match="PoolerSpec"):
        default_steps(PoolerSpec(64))
