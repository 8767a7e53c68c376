# SPDX-License-Identifier: Apache-2.0
"""Costs: flops as torch counts them on Hugging Face's models, weights as many as these have, bytes per dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_strategies import any_spec_class_with_arguments
from tiny_models import FAMILIES, random_inputs, random_model, spec_of
from torch.utils.flop_counter import FlopCounterMode

from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    Cost,
    EmbeddingSpec,
    FeedForwardSpec,
    InvalidSpecError,
    MixtureOfExpertsSpec,
    NormSpec,
    PatchEmbeddingSpec,
)

BATCH, LENGTH = 2, 19


def counted_flops(call) -> int:
    """What torch counts, but for the angles of the rotary embedding, which transformers 4 computes by a product."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    angles = [counts for name, counts in counter.get_flop_counts().items() if "rotary_emb" in name.split(".")[-1]]
    return counter.get_total_flops() - sum(sum(counts.values()) for counts in angles)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_flops_and_weights_are_the_models_own(family):
    model, inputs = random_model(family), random_inputs(family, BATCH, LENGTH)
    spec = spec_of(model)
    length = LENGTH if family.config_class != "ViTConfig" else spec.embedding.learned_positions
    cost = spec.cost(BATCH, length)
    assert cost.flops == counted_flops(lambda: model(inputs))
    learned = [*model.parameters(), *(kept for name, kept in model.named_buffers() if name.endswith("correction_bias"))]
    assert cost.weight_count == sum(tensor.numel() for tensor in learned)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_decode_costs_what_one_more_token_costs(name):
    model, inputs = random_model(FAMILIES[name]), random_inputs(FAMILIES[name], BATCH, LENGTH)
    spec = spec_of(model)
    with torch.no_grad():
        cache = model(inputs[:, :-1], use_cache=True).past_key_values
    flops = counted_flops(lambda: model(inputs[:, -1:], past_key_values=cache, use_cache=True))
    assert spec.cost(BATCH, LENGTH, "decode").flops == flops


def test_attention_costs_by_hand():
    spec = AttentionSpec(hidden_dim=64, num_heads=4, num_kv_heads=2, head_dim=8)
    cost = spec.cost(batch=3, seq_len=10, phase="prefill")
    projections = 3 * 10 * 64 * (32 + 16 + 16 + 32)
    scores = 3 * 4 * 10 * 10
    assert cost.flops == 2 * projections + 2 * 2 * scores * 8
    assert cost.weight_count == cost.weights_read == 64 * (32 + 16 + 16 + 32)
    assert cost.kv_cache_count == 3 * 10 * (16 + 16)
    assert cost.activation_count == 30 * (64 + 64) + 30 * (64 + 32) + 2 * scores + 30 * (32 + 64)


def test_flash_attention_keeps_scores_out_of_memory():
    standard = AttentionSpec(64, 4, max_sequence_length=4096)
    flash = standard.replace(attention_type="flash")
    assert flash.cost(1, 1024).flops == standard.cost(1, 1024).flops
    assert standard.cost(1, 1024).activation_count - flash.cost(1, 1024).activation_count == 2 * 4 * 1024**2


def test_a_window_bounds_the_cache_and_decode():
    spec = AttentionSpec(64, 4, sliding_window=100)
    assert spec.cost(1, 1000, "decode") == spec.cost(1, 100, "decode")
    assert spec.cost(1, 1000).kv_cache_count == spec.cost(1, 100).kv_cache_count


def test_an_encoder_keeps_no_cache():
    assert AttentionSpec(64, 4, causal=False).cost(1, 100).kv_cache_count == 0


def test_bytes_per_dtype_count_the_shared_exponents():
    cost = FeedForwardSpec(1024, 4096).cost(1, 1, "decode")
    assert cost.weight_count == 3 * 1024 * 4096
    assert cost.weight_bytes == {
        "float32": 4 * cost.weight_count,
        "bfloat16": 2 * cost.weight_count,
        "bfloat8_b": cost.weight_count * 1088 // 1024,
        "bfloat4_b": cost.weight_count * 576 // 1024,
    }
    assert cost.activation_bytes == 2 * cost.activation_count


def test_decode_is_bound_by_weights_and_prefill_is_not():
    spec = FeedForwardSpec(4096, 11008)
    decode, prefill = spec.cost(1, 1, "decode"), spec.cost(1, 4096)
    assert decode.arithmetic_intensity["bfloat16"] == pytest.approx(1.0, rel=1e-2)
    assert decode.arithmetic_intensity["bfloat4_b"] == pytest.approx(2 * 1024 / 576, rel=1e-2)
    assert prefill.arithmetic_intensity["bfloat16"] > 1000
    assert NormSpec(64).cost(1, 1).arithmetic_intensity["bfloat16"] == 0


def test_a_mixture_reads_only_the_experts_it_needs():
    expert = FeedForwardSpec(64, 96)
    spec = MixtureOfExpertsSpec(expert, num_experts=8, experts_per_token=2)
    router, one = 64 * 8, expert.cost().weight_count
    assert spec.cost(1, 1, "decode").weights_read == router + 2 * one
    assert spec.cost(1, 100).weights_read == router + 8 * one
    assert spec.cost(1, 1).weight_count == router + 8 * one


def test_an_embedding_reads_its_rows_only():
    cost = EmbeddingSpec(1000, 64).cost(2, 5)
    assert (cost.flops, cost.weight_count, cost.weights_read) == (0, 64000, 640)


@given(any_spec_class_with_arguments, st.integers(1, 4), st.integers(1, 50), st.sampled_from(["prefill", "decode"]))
@settings(deadline=None, max_examples=50)
def test_costs_grow_with_the_batch_but_weights_do_not(class_and_arguments, batch, seq_len, phase):
    spec_class, arguments = class_and_arguments
    spec = spec_class(**arguments)
    one, many = spec.cost(1, seq_len, phase), spec.cost(batch, seq_len, phase)
    assert many.flops == batch * one.flops
    assert many.weight_count == one.weight_count
    assert many.kv_cache_count == batch * one.kv_cache_count
    if isinstance(spec, CausalLMSpec):
        parts = (spec.embedding, *spec.layers, spec.final_norm, spec.lm_head)
        assert one.flops == sum((part.cost(1, seq_len, phase) for part in parts), Cost()).flops


def test_an_impossible_workload_is_refused():
    with pytest.raises(InvalidSpecError) as caught:
        NormSpec(64).cost(batch=0, seq_len=1.5, phase="train")
    assert [violation.field for violation in caught.value.violations] == ["batch", "seq_len", "phase"]


def test_an_image_has_all_its_positions_at_once():
    spec = PatchEmbeddingSpec(224, 16, 768)
    assert spec.cost(1, 197).flops == 2 * 196 * 768 * 768
    with pytest.raises(InvalidSpecError, match="give seq_len=197 and phase='prefill'"):
        spec.cost(1, 224)
