# SPDX-License-Identifier: Apache-2.0
"""A GGUF file of a Llama loads as the very model that it was made of, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llamas import logits, tiny_llama, write_gguf
from transformers import LlamaForCausalLM

from tttdebug.errors import SpecError, WeightsError
from tttdebug.references import load_reference


@settings(max_examples=15, deadline=None)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=st.sampled_from([8, 16, 20]),
    tied=st.booleans(),
    attention_bias=st.booleans(),
    mlp_bias=st.booleans(),
    theta=st.sampled_from([10000.0, 100000.0, 500000.0]),
    eps=st.sampled_from([1e-5, 1e-6]),
)
def test_an_fp32_file_gives_the_models_own_bits(
    tmp_path_factory: pytest.TempPathFactory,
    kv_heads: int,
    group: int,
    head_dim: int,
    tied: bool,
    attention_bias: bool,
    mlp_bias: bool,
    theta: float,
    eps: float,
) -> None:
    model = tiny_llama(
        hidden_size=kv_heads * group * 16,
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        tie_word_embeddings=tied,
        attention_bias=attention_bias,
        mlp_bias=mlp_bias,
        rope_theta=theta,
        rms_norm_eps=eps,
    )
    path = write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model)
    reference = load_reference(path)
    assert torch.equal(logits(reference.model), logits(model))
    assert reference.config.rms_norm_eps == eps
    assert reference.config.tie_word_embeddings == tied
    assert reference.context_length == 128
    assert reference.name == "tiny"


@pytest.mark.parametrize(
    ("quantisation", "step"), [("Q8_0", 1 / 127), ("Q4_1", 1 / 15), ("BF16", 2**-7), ("F16", 2**-10)]
)
def test_a_quantised_file_is_within_half_a_step_of_the_weights(tmp_path: Path, quantisation: str, step: float) -> None:
    model = tiny_llama()
    reference = load_reference(write_gguf(tmp_path / "tiny.gguf", model, quantisation=quantisation))
    for name, weight in model.state_dict().items():
        blocks = weight.reshape(-1, 32) if weight.ndim == 2 else weight.reshape(1, -1)
        spread = blocks.amax(1) - blocks.amin(1) if quantisation == "Q4_1" else blocks.abs().amax(1)
        error = (reference.model.state_dict()[name].reshape(blocks.shape) - blocks).abs().amax(1)
        assert (error <= 0.51 * step * spread + 1e-3 * spread * (quantisation[0] == "Q")).all(), name


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ],
    ids=lambda scaling: scaling["rope_type"],
)
def test_scaled_rope_gives_the_models_own_bits(tmp_path: Path, scaling: dict[str, float]) -> None:
    model = tiny_llama(rope_scaling=scaling, rope_theta=500000.0, head_dim=64)

    def say(writer: object) -> None:
        import gguf

        assert isinstance(writer, gguf.GGUFWriter)
        if scaling["rope_type"] == "llama3":  # llama.cpp keeps what each frequency is divided by
            plain = 500000.0 ** (-np.arange(0, 64, 2) / 64)
            writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
            return
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling["rope_type"]))
        writer.add_rope_scaling_factor(scaling["factor"])
        if "original_max_position_embeddings" in scaling:
            writer.add_rope_scaling_orig_ctx_len(int(scaling["original_max_position_embeddings"]))

    reference = load_reference(write_gguf(tmp_path / "tiny.gguf", model, change=say))
    assert not torch.equal(model.model.rotary_emb.inv_freq, tiny_llama(head_dim=64).model.rotary_emb.inv_freq)
    assert torch.equal(logits(reference.model, 60), logits(model, 60))


def test_only_the_first_layers_are_kept(tmp_path: Path) -> None:
    model = tiny_llama(num_hidden_layers=3)
    path = write_gguf(tmp_path / "tiny.gguf", model)
    reference = load_reference(path, layers=2)
    model.model.layers = model.model.layers[:2]
    assert reference.config.num_hidden_layers == len(reference.model.model.layers) == 2
    assert torch.equal(logits(reference.model), logits(model))
    for layers in (0, -1, 4):
        with pytest.raises(SpecError, match=rf"layers is {layers}, but the model has 3"):
            load_reference(path, layers=layers)


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(WeightsError) as caught:
        load_reference(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", tiny_llama(num_hidden_layers=1)).read_bytes()
    cut = tmp_path / "cut.gguf"
    header = whole.index(b"token_embd.weight")
    for length in [*range(0, header, 7), *range(header, len(whole), 9973), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        assert "GGUF" in refusal(cut)


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert "not a GGUF file" in refusal(tmp_path / "model.safetensors")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    assert "'qwen2'" in refusal(write_gguf(tmp_path / "q.gguf", tiny_llama(), architecture="qwen2"))


def test_unknown_mathematics_is_refused(tmp_path: Path) -> None:
    changes = {
        "experts": lambda writer: writer.add_expert_count(8),
        "logit": lambda writer: writer.add_logit_scale(0.5),
        "longrope": lambda writer: writer.add_string("llama.rope.scaling.type", "longrope"),
        "factor": lambda writer: writer.add_string("llama.rope.scaling.type", "linear"),
        "partial": lambda writer: writer.add_uint32("llama.rope.dimension_count_swa", 8),
        "freqs": lambda writer: writer.add_tensor("rope_freqs.weight", np.linspace(1, 9, 8, dtype=np.float32)),
        "strange": lambda writer: writer.add_tensor("blk.0.attn_q_norm.weight", np.ones(16, dtype=np.float32)),
    }
    said = {
        name: refusal(write_gguf(tmp_path / f"{name}.gguf", tiny_llama(), change=change))
        for name, change in changes.items()
    }
    assert "llama.expert_count" in said["experts"]
    assert "llama.logit_scale" in said["logit"]
    assert "longrope" in said["longrope"]
    assert "llama.rope.scaling.factor" in said["factor"]
    assert "llama.rope.dimension_count_swa" in said["partial"]
    assert "rope_freqs.weight" in said["freqs"]
    assert "attn_q_norm" in said["strange"]


def test_missing_tensors_and_metadata_are_named(tmp_path: Path) -> None:
    left_out = write_gguf(tmp_path / "left_out.gguf", tiny_llama(), leave_out=("blk.1.ffn_up.weight",))
    assert "model.layers.1.mlp.up_proj.weight" in refusal(left_out)
    empty = write_gguf(tmp_path / "empty.gguf", tiny_llama(), leave_out=("token_embd.weight",))
    assert "token_embd.weight" in refusal(empty)


def test_a_weight_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "shape.gguf",
        tiny_llama(),
        leave_out=("blk.0.ffn_down.weight",),
        change=lambda writer: writer.add_tensor("blk.0.ffn_down.weight", np.zeros((64, 64), dtype=np.float32)),
    )
    assert "mlp.down_proj.weight" in (said := refusal(path))
    assert "has not the shape [64, 96]" in said


def test_flipped_bytes_load_or_are_refused(tmp_path: Path) -> None:
    whole = bytearray(write_gguf(tmp_path / "whole.gguf", tiny_llama(num_hidden_layers=1)).read_bytes())
    end_of_header = whole.index(b"token_embd.weight") + 64
    flipped = tmp_path / "flipped.gguf"
    generator = np.random.default_rng(0)
    for position in generator.integers(4, end_of_header, 60):
        damaged = bytearray(whole)
        damaged[position] ^= int(generator.integers(1, 256))
        flipped.write_bytes(damaged)
        try:
            assert isinstance(load_reference(flipped).model, LlamaForCausalLM)
        except WeightsError as error:
            assert "\n" not in str(error)  # noqa: PT017
