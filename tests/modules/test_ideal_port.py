# SPDX-License-Identifier: Apache-2.0
"""On the ideal engine, plain fp32 without the chip's formats, a port computes what its reference computes.

This is the test that finds a wrong rotation, offset, mask, scale, norm or head order.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import PromptError, SpecError, WeightsError
from tttdebug.modules import FeedForward, HardwareConfig, LMHead, MultiHeadAttention, StepPositions
from tttdebug.specs import AttentionSpec, FeedForwardSpec, LMHeadSpec, RopeSpec

EXACT = 1e-5


@st.composite
def configurations(draw):
    """Odd head counts, grouped heads, tied and untied heads, every rope scaling that the port computes."""
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    head_dim = draw(st.sampled_from([32, 64, 72]))
    rope = draw(
        st.sampled_from(
            [
                {"rope_type": "default"},
                {"rope_type": "linear", "factor": 2.0},
                {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                },
            ]
        )
    )
    return {
        "hidden_size": heads * draw(st.sampled_from([32, 48, 64])),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": draw(st.sampled_from([96, 224])),
        "vocab_size": draw(st.sampled_from([96, 160])),
        "max_position_embeddings": 256,
        "tie_word_embeddings": draw(st.booleans()),
        "rope_parameters": {"rope_theta": draw(st.sampled_from([1e4, 5e5])), **rope},
    }


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), st.integers(1, 70), st.booleans(), st.integers(0, 2**16))
def test_every_boundary_of_a_random_llama_is_exact(config, length, fuse_qkv, seed):
    note(f"seed {seed}")
    reference = td.load_reference(tiny_llama(seed, **config))
    hw_config = HardwareConfig.preset("bf16").replace(fuse_qkv=fuse_qkv)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"), hw_config=hw_config)
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(config["vocab_size"], (size,), generator=generator).tolist() for size in (length, 33)]
    run = td.track(port, reference, prompts, decode_steps=4)
    assert run.passed
    worst = max(run.records, key=lambda record: record.rel_l2)
    assert worst.rel_l2 < EXACT, f"{worst.boundary} in {worst.phase} {worst.step}: rel_l2 {worst.rel_l2}"
    assert {record.boundary for record in run.records} >= {"embed", "L01.k_cache", "L01.self_attn", "logits"}


def test_prompts_longer_than_the_context_and_too_many_users_are_refused():
    reference = td.load_reference(tiny_llama(head_dim=32))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    with pytest.raises(PromptError, match="128"):
        port.allocate_cache(1, 129)
    with pytest.raises(PromptError, match="1 to 32"):
        port.allocate_cache(33, 32)


def test_a_context_that_fills_no_whole_tile_can_be_used_up():
    reference = td.load_reference(tiny_llama(head_dim=32, max_position_embeddings=50))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"), "bf16")
    run = td.track(port, reference, [torch.arange(5, 52).tolist()], decode_steps=3)
    assert run.passed
    assert max(record.rel_l2 for record in run.records) < EXACT


def test_an_attention_says_which_position_it_has_not():
    spec = AttentionSpec(64, 2, max_sequence_length=40)
    attention = MultiHeadAttention(spec, device="emulated")
    ttnn = attention.ttnn
    x = ttnn.zeros((1, 1, 96, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=attention.device)
    with pytest.raises(PromptError, match="position 64 is beyond the 40"):
        attention(x)
    attention.allocate_cache(1, 64)
    step = StepPositions(attention.device, torch.tensor([40]))
    with pytest.raises(PromptError, match="position 40 is beyond the 40"):
        attention.decode_forward(ttnn.slice(x, [0, 0, 0, 0], [1, 1, 32, 64]), step)


def test_a_padded_vocabulary_has_logits_for_its_padding_too():
    head = LMHead(LMHeadSpec(64, 101, padded_vocab_size=128), device="emulated")
    ttnn = head.ttnn
    x = ttnn.zeros((1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=head.device)
    assert head.shapes() == {"weight": (128, 64)}
    assert list(head(x).shape) == [1, 1, 32, 128]


def test_a_module_says_which_weight_it_lacks():
    spec = FeedForwardSpec(64, 96)
    with pytest.raises(WeightsError, match="'w2'"):
        FeedForward(spec, {"w1": torch.zeros(96, 64), "w3": torch.zeros(96, 64)}, "emulated")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"causal": False}, "EncoderAttention"),
        ({"logit_softcap": 30.0}, "SoftcappedAttention"),
        ({"head_dim": 288}, "a rope over heads of 288, 256 being the most that ttnn turns"),
    ],
)
def test_what_a_module_does_not_compute_is_refused_and_not_left_out(changes, named):
    spec = AttentionSpec(128, 4, rope=RopeSpec()).replace(**changes)
    with pytest.raises(SpecError, match=named):
        MultiHeadAttention(spec, {}, "emulated")


def test_a_misshapen_weight_is_named_with_both_shapes():
    weights = {"w1": torch.zeros(96, 64), "w3": torch.zeros(96, 64), "w2": torch.zeros(96, 64)}
    with pytest.raises(WeightsError, match=r"'w2' as \[64, 96\], it is \[96, 64\]"):
        FeedForward(FeedForwardSpec(64, 96), weights, "emulated")
