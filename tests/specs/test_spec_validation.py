# SPDX-License-Identifier: Apache-2.0
"""Validation: every violation at once, each with field, value, rule and suggestion; alignment is a note."""

from __future__ import annotations

import math

import pytest

from tttdebug.errors import SpecError
from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    ClassifierSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderModelSpec,
    FeedForwardSpec,
    InvalidSpecError,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
    PatchEmbeddingSpec,
    PoolerSpec,
    RopeSpec,
)
from tttdebug.specs.validation import Rule

NORM = NormSpec(64)
ATTENTION = AttentionSpec(64, 4)
NETWORK = FeedForwardSpec(64, 96)
LAYER = DecoderLayerSpec(ATTENTION, NETWORK, NORM, NORM)
ENCODER_LAYER = EncoderLayerSpec(ATTENTION.replace(causal=False), NETWORK, NORM, NORM)
EMBEDDING = EmbeddingSpec(100, 64, learned_positions=512)
MODEL = CausalLMSpec(EMBEDDING, (LAYER,), NORM, LMHeadSpec(64, 100), max_sequence_length=512)
ENCODER = EncoderModelSpec(EMBEDDING, (ENCODER_LAYER,), pooler=PoolerSpec(64, 32), classifier=ClassifierSpec(32, 3))
EXPERTS = MixtureOfExpertsSpec(NETWORK, num_experts=4, experts_per_token=2, shared_expert=NETWORK)

# For every rule between fields, in the order of the spec's table: a valid spec and the change that breaks the rule.
BROKEN_RULES = [
    (RopeSpec(), {"factor": 8.0}),
    (RopeSpec(), {"scaling": "llama3", "original_max_position": None}),
    (RopeSpec(scaling="llama3", original_max_position=8192), {"low_freq_factor": 4.0}),
    (RopeSpec(scaling="yarn", original_max_position=8192), {"beta_slow": 32.0}),
    (ATTENTION, {"num_kv_heads": 3}),
    (ATTENTION, {"head_dim": 15}),
    (ATTENTION, {"rope": RopeSpec(rotary_dim=18)}),
    (ATTENTION, {"qk_norm": NormSpec(64)}),
    (FeedForwardSpec(64, 96, "relu"), {"fused_gate_up": True}),
    (EXPERTS, {"experts_per_token": 5}),
    (EXPERTS, {"shared_expert": FeedForwardSpec(32, 96)}),
    (EXPERTS.replace(shared_expert=None), {"shared_expert_gate": True}),
    (EMBEDDING, {"norm": NormSpec(32)}),
    (PatchEmbeddingSpec(224, 16, 64), {"patch_size": 15}),
    (LMHeadSpec(64, 100), {"padded_vocab_size": 99}),
    (LAYER, {"feed_forward": FeedForwardSpec(32, 96)}),
    (LAYER, {"input_norm": NormSpec(32)}),
    (LAYER, {"post_attention_norm": NormSpec(32)}),
    (LAYER.replace(post_feed_forward_norm=NORM, pre_feed_forward_norm=NORM), {"pre_feed_forward_norm": NormSpec(32)}),
    (LAYER.replace(post_feed_forward_norm=NORM, pre_feed_forward_norm=NORM), {"post_feed_forward_norm": NormSpec(32)}),
    (LAYER, {"post_attention_norm": None}),
    (LAYER, {"post_feed_forward_norm": NORM}),
    (
        LAYER.replace(post_feed_forward_norm=NORM, pre_feed_forward_norm=NORM),
        {"parallel_residual": True, "pre_feed_forward_norm": NORM},
    ),
    (ENCODER_LAYER, {"feed_forward": FeedForwardSpec(32, 96)}),
    (ENCODER_LAYER, {"attention_norm": NormSpec(32)}),
    (ENCODER_LAYER, {"feed_forward_norm": NormSpec(32)}),
    (ENCODER_LAYER, {"attention": ATTENTION}),
    (MODEL, {"layers": (LAYER, DecoderLayerSpec(AttentionSpec(32, 4), FeedForwardSpec(32, 8), *[NormSpec(32)] * 2))}),
    (MODEL, {"final_norm": NormSpec(32)}),
    (MODEL, {"lm_head": LMHeadSpec(32, 100)}),
    (MODEL, {"lm_head": LMHeadSpec(64, 99, tied=True)}),
    (MODEL, {"max_sequence_length": 513}),
    (
        ENCODER,
        {
            "layers": (
                EncoderLayerSpec(AttentionSpec(32, 4, causal=False), FeedForwardSpec(32, 8), *[NormSpec(32)] * 2),
            )
        },
    ),
    (ENCODER, {"final_norm": NormSpec(32)}),
    (ENCODER, {"pooler": PoolerSpec(32, 32)}),
    (ENCODER, {"classifier": ClassifierSpec(64, 3)}),
    (ENCODER, {"max_sequence_length": 513}),
]


def _rules() -> list[tuple[type[ModuleSpec], Rule]]:
    kinds = (kind for kind in ModuleSpec.KINDS.values() if kind.__module__.startswith("tttdebug."))
    return [(kind, rule) for kind in kinds for rule in kind.RULES]


@pytest.mark.parametrize(("spec", "change"), BROKEN_RULES, ids=lambda part: type(part).__name__)
def test_a_broken_rule_blames_its_field(spec, change):
    with pytest.raises(InvalidSpecError) as caught:
        spec.replace(**change)
    (violation,) = caught.value.violations
    assert violation.field in change
    assert violation.rule
    assert violation.suggestion


def test_every_rule_has_an_example_above():
    broken = set()
    for spec, change in BROKEN_RULES:
        with pytest.raises(InvalidSpecError) as caught:
            spec.replace(**change)
        broken |= {(type(spec), violation.field, violation.rule) for violation in caught.value.violations}
    assert len(broken) == len(_rules())


def test_all_violations_are_listed_at_once():
    with pytest.raises(SpecError) as caught:
        AttentionSpec(
            hidden_dim="4096", num_heads=True, num_kv_heads=4.5, attention_type="flsh", sliding_window=0, scale=math.nan
        )
    by_field = {violation.field: violation for violation in caught.value.violations}
    assert list(by_field) == ["hidden_dim", "num_heads", "num_kv_heads", "sliding_window", "scale", "attention_type"]
    assert by_field["hidden_dim"].value == "4096"
    assert by_field["hidden_dim"].rule == "must be a whole number"
    assert by_field["hidden_dim"].suggestion == "write 4096 without the quotes"
    assert by_field["attention_type"].suggestion == "did you mean 'flash'?"
    assert all(str(violation) in str(caught.value) for violation in caught.value.violations)


def test_rules_between_fields_are_listed_together():
    with pytest.raises(InvalidSpecError) as caught:
        AttentionSpec(100, 4, num_kv_heads=3, qk_norm=NormSpec(24))
    assert [violation.field for violation in caught.value.violations] == ["num_kv_heads", "head_dim", "qk_norm"]


def test_heads_that_do_not_divide_name_those_that_do():
    with pytest.raises(
        SpecError, match=r"num_heads=30 must divide hidden_dim \(4096\).*take 8, 16, 32, or give head_dim"
    ):
        AttentionSpec(hidden_dim=4096, num_heads=30)
    assert AttentionSpec(hidden_dim=4096, num_heads=30, head_dim=128).q_dim == 3840


@pytest.mark.parametrize("value", [True, "32", 4.5, None, math.inf, -1, 0, [32]])
def test_a_size_is_a_positive_whole_number(value):
    with pytest.raises(InvalidSpecError) as caught:
        NormSpec(value)
    assert caught.value.violations[0].field == "hidden_dim"


@pytest.mark.parametrize("value", [True, "1e-5", None, math.inf, math.nan, -1e-5, 0])
def test_an_epsilon_is_a_positive_number(value):
    with pytest.raises(InvalidSpecError) as caught:
        NormSpec(64, eps=value)
    assert caught.value.violations[0].field == "eps"


@pytest.mark.parametrize("value", [0, 1, "True", None])
def test_a_flag_is_true_or_false(value):
    with pytest.raises(InvalidSpecError, match="must be True or False"):
        NormSpec(64, bias=value)


@pytest.mark.parametrize("value", [{}, "rope", FeedForwardSpec(64, 96), 3])
def test_a_nested_spec_is_of_its_kind(value):
    with pytest.raises(InvalidSpecError, match="must be RopeSpec"):
        AttentionSpec(64, 4, rope=value)


def test_a_model_has_layers():
    with pytest.raises(InvalidSpecError, match=r"layers=\(\) must not be empty"):
        MODEL.replace(layers=())


def test_alignment_is_a_note():
    assert AttentionSpec(4096, 32).notes() == ()
    (head_dim,) = AttentionSpec(576, 9, head_dim=48).notes()
    assert str(head_dim) == "head_dim=48: not a multiple of 32, TTNN pads it to 64"


def test_notes_of_a_model_name_equal_layers_once():
    fields = [note.field for note in MODEL.replace(layers=(LAYER,) * 3).notes()]
    assert fields == ["layers[0-2].attention.head_dim", "lm_head.padded_vocab_size"]
