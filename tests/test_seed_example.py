# SPDX-License-Identifier: Apache-2.0
"""The example that the design of module specifications ends with, word for word where it is code."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tttdebug as td
from tttdebug import (
    AttentionSpec,
    HardwareConfig,
    ModuleSpecFactory,
    ModuleSpecWithReference,
    MultiHeadAttention,
    compare_outputs,
    get_reference_output,
)
from tttdebug.errors import PairingError, SpecError
from tttdebug.specs import AttentionSpecLike


def on_device(attention, x):
    ttnn = attention.ttnn
    return ttnn.from_torch(x[None], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=attention.device)


def test_the_example_runs():
    # Step 1: Create spec (no hardware details!)
    attention_spec = AttentionSpec(hidden_dim=4096, num_heads=32)
    assert attention_spec.head_dim == 128

    # Step 2: Module handles all complexity
    attention = MultiHeadAttention(attention_spec, device=td.open_device("emulated", engine="ideal"))
    our_output = attention(on_device(attention, torch.randn(1, 32, 4096)))
    assert list(our_output.shape) == [1, 1, 32, 4096]


def test_a_tracked_spec_is_compared_with_its_reference():
    spec = AttentionSpec(hidden_dim=64, num_heads=2, max_sequence_length=64)
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, intermediate_size=96, num_hidden_layers=2, vocab_size=50
    )
    model = LlamaForCausalLM(config).eval()
    tracked_attention = ModuleSpecWithReference(
        spec=spec, reference_module="model.layers.1.self_attn", reference_source="pytorch"
    )
    own = model.get_submodule(tracked_attention.reference_module)
    weights = {f"w{name}": getattr(own, f"{name}_proj").weight for name in "qkvo"}
    attention = MultiHeadAttention(spec, weights, device="emulated")

    seen = []
    own.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True)
    with td.watch_reference(model), torch.no_grad():
        model(torch.arange(32)[None])
        ref_output = get_reference_output(tracked_attention.reference_module)
        with pytest.raises(PairingError, match=r"nearest: model\.layers\.1\.self_attn"):
            get_reference_output("layers.1.self_attn")
    our_output = attention(on_device(attention, seen[0]))
    diff = compare_outputs(ref_output, our_output)
    assert diff.passed(pcc=0.99)
    assert diff.pcc == tracked_attention.compare_with_reference(ref_output, our_output).pcc
    with pytest.raises(PairingError, match="watch_reference"):
        get_reference_output(tracked_attention.reference_module)


def test_weights_that_nobody_gives_are_drawn_from_the_seed():
    spec, x = AttentionSpec(hidden_dim=64, num_heads=2), torch.randn(1, 32, 64)
    device = td.open_device("emulated")

    def output(seed):
        attention = MultiHeadAttention(spec, device=device, seed=seed)
        return attention.ttnn.to_torch(attention(on_device(attention, x)))

    assert torch.equal(output(7), output(7))
    assert not torch.equal(output(7), output(8))


@pytest.mark.parametrize("heads", ["n_head", "n_heads"])
def test_the_factory_reads_both_styles(heads):
    from_gpt = ModuleSpecFactory.attention_from_config({"n_embd": 4096, heads: 32})
    from_hugging_face = ModuleSpecFactory.attention_from_config({"hidden_size": 4096, "num_attention_heads": 32})
    assert (from_gpt.hidden_dim, from_gpt.num_heads) == (4096, 32)
    assert (from_hugging_face.hidden_dim, from_hugging_face.num_heads) == (4096, 32)


def test_the_builder_and_the_constructor_agree():
    assert AttentionSpec.builder().hidden_dim(4096).num_heads(32).build() == AttentionSpec(4096, 32)


def test_specs_are_frozen_and_impossible_ones_never_exist():
    with pytest.raises(FrozenInstanceError):
        AttentionSpec(4096, 32).hidden_dim = 1
    with pytest.raises(SpecError, match="num_heads"):
        AttentionSpec(hidden_dim=4096, num_heads=33)


class MinimalAttentionSpec:
    """The class of the design's third option, as it stands there."""

    def __init__(self, hidden_dim: int, num_heads: int):
        self._hidden_dim = hidden_dim
        self._num_heads = num_heads

    @property
    def hidden_dim(self) -> int:
        return self._hidden_dim

    @property
    def num_heads(self) -> int:
        return self._num_heads

    @property
    def head_dim(self) -> int:
        return self._hidden_dim // self._num_heads

    def validate(self):
        assert self._hidden_dim % self._num_heads == 0


def test_an_object_that_satisfies_the_protocol_gives_the_same_bits():
    assert isinstance(MinimalAttentionSpec(64, 2), AttentionSpecLike)
    device, x = td.open_device("emulated"), torch.randn(1, 32, 64)
    outputs = []
    for spec in (MinimalAttentionSpec(64, 2), AttentionSpec(64, 2)):
        attention = MultiHeadAttention(spec, device=device)
        outputs.append(attention.ttnn.to_torch(attention(on_device(attention, x))))
    assert torch.equal(*outputs)


def test_an_object_that_does_not_satisfy_it_is_told_why():
    class WithoutHeads:
        hidden_dim = 64
        head_dim = 32

    with pytest.raises(SpecError, match="num_heads"):
        MultiHeadAttention(WithoutHeads(), device="emulated")


@pytest.mark.parametrize("fuse_qkv", [True, False])
def test_the_hardware_config_decides_fusion(fuse_qkv):
    hw_config = HardwareConfig.preset("bf16").replace(fuse_qkv=fuse_qkv)
    attention = MultiHeadAttention(AttentionSpec(64, 2), device="emulated", hw_config=hw_config)
    assert len(attention.wqkv) == (1 if fuse_qkv else 3)


@pytest.mark.parametrize(("kv_heads", "kind"), [(8, "multi-head"), (2, "grouped-query"), (1, "multi-query")])
def test_the_spec_chooses_grouped_or_standard_attention(kv_heads, kind):
    spec = AttentionSpec(256, 8, num_kv_heads=kv_heads)
    attention = MultiHeadAttention(spec, device="emulated")
    assert attention.wqkv[0].shape[-1] == (8 + 2 * kv_heads) * 32, kind
    assert list(attention(on_device(attention, torch.randn(1, 32, 256))).shape) == [1, 1, 32, 256]
