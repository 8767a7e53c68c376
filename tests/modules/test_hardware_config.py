# SPDX-License-Identifier: Apache-2.0
"""Hardware configs: presets and hints, TT-Transformers' files per layer, and reasons for what was decided."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import SpecError
from tttdebug.modules import HardwareConfig, MultiHeadAttention
from tttdebug.modules.decoder_config import DTYPES, KERNELS, OP_GROUPS, TENSOR_GROUPS, with_layer_entry
from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LMHeadSpec,
    NormSpec,
)


def written(path, decoders):
    path.write_text(json.dumps({"decoders": decoders}))
    return path


@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("configs") / "decoder_config.json"
    layers = [
        HardwareConfig().replace(
            **{field: data.draw(st.sampled_from(list(DTYPES.values()))) for field in TENSOR_GROUPS.values()},
            **{field: data.draw(st.sampled_from(list(KERNELS.values()))) for field in OP_GROUPS.values()},
        )
        for _ in range(2)
    ]
    HardwareConfig(layers=tuple(enumerate(layers))).write_decoder_config(path, num_layers=2)
    read = HardwareConfig.from_decoder_config(path)
    assert [read.for_layer(i) for i in range(2)] == layers


def test_a_config_is_what_a_manifest_says_of_it():
    layers = ((0, HardwareConfig.preset("performance")), (3, HardwareConfig.preset("bf16")))
    config = HardwareConfig(name="mixed", layers=layers)
    assert HardwareConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wq": "bfloat16"}, "wq"),
        ({"ff2": 8}, "ff2 is 8"),
        ({"li_ff2": "HiFi2"}, "'HiFi2'"),
        ({"li_ff2": {"math_fidelity": "HiFi2"}}, "fp32_dest_acc_en"),
    ],
)
def test_what_is_no_config_of_this_version_is_refused(change, named):
    with pytest.raises(SpecError, match=named):
        HardwareConfig.from_dict(HardwareConfig().to_dict() | change)


def test_an_entry_of_one_layer_changes_that_layer_alone():
    config = with_layer_entry(HardwareConfig(), 2, {"precision_cfg": {"FF2": "BF16"}})
    assert [config.for_layer(layer).ff2 for layer in (1, 2, 3)] == ["bfloat8_b", "bfloat16", "bfloat8_b"]
    both = with_layer_entry(config, 2, {"fidelity_cfg": {"LI_FF2": "HIFI4"}})
    assert (both.for_layer(2).ff2, both.for_layer(2).li_ff2.math_fidelity) == ("bfloat16", "HiFi4")
    with pytest.raises(SpecError, match="entry of layer 2"):
        with_layer_entry(config, 2, {"FF2": "BF16"})


def test_a_file_changes_the_layers_it_names_and_no_other(tmp_path):
    setting = {"precision_cfg": {"FF1_FF3": "BFP4"}, "fidelity_cfg": {"LI_FF1_FF3": "LOFI"}}
    config = HardwareConfig.from_decoder_config(written(tmp_path / "decoder_config.json", {"1": setting}))
    port = td.build_model(td.load_reference(tiny_llama(head_dim=32)), td.open_device("emulated"), hw_config=config)
    kept = [layer.feed_forward.weight_formats["w1"] for layer in port.layers]
    assert [(kind.dtype, kind.kernel.math_fidelity) for kind in kept] == [("bfloat8_b", "HiFi2"), ("bfloat4_b", "LoFi")]


def test_a_file_for_a_deeper_model_is_refused(tmp_path):
    path = written(tmp_path / "decoder_config.json", {"31": {"precision_cfg": {"FF2": "BF16"}}})
    with pytest.raises(SpecError, match="sets layer 31, but the model has layers 0 to 1"):
        td.build_model(td.load_reference(tiny_llama(head_dim=32)), td.open_device("emulated"), precision=str(path))


@pytest.mark.parametrize(
    ("decoders", "named"),
    [
        ({"x": {}}, "key 'x'"),
        ({"0": {"precision": {}}}, "'precision'"),
        ({"0": {"precision_cfg": {"WQKV": "INT4"}}}, "WQKV='INT4'"),
        ({"0": {"fidelity_cfg": {"LI_QKV": "HIFI4"}}}, "LI_QKV"),
        ({"0": []}, "decoders.0 is"),
    ],
)
def test_a_faulty_file_is_refused_by_its_entry(tmp_path, decoders, named):
    with pytest.raises(SpecError, match=named):
        HardwareConfig.from_decoder_config(written(tmp_path / "decoder_config.json", decoders))


def test_hints_name_presets():
    presets = {hint: HardwareConfig.preset(hint).name for hint in ("auto", "high", "balanced", "fast")}
    assert presets == {"auto": "accuracy", "high": "bf16", "balanced": "accuracy", "fast": "performance"}
    with pytest.raises(SpecError, match="int4"):
        HardwareConfig.named("int4")


def decisions(config, spec, **length):
    return {decision.about: decision for decision in config.explain(spec, td.open_device("emulated"), **length)}


def test_every_decision_is_explained():
    fast = HardwareConfig.preset("performance")
    made = decisions(fast, AttentionSpec(4096, 32))
    assert made["ff1_ff3"].choice == "bfloat4_b with LoFi"
    assert made["query, key and value"].choice == "one matmul"
    assert made["memory"].choice == "DRAM, interleaved"
    assert made["attention, prefill of 128"].choice == "8x8 cores, chunks of 32"
    assert made["attention, decode"].choice == "8x8 cores, automatic chunks"
    assert made["wqkv 4096x12288, decode"].choice == "1d multicast, 1x6 tiles a core, K by 8"
    assert all(decision.why for decision in made.values())
    apart = decisions(fast.replace(fuse_qkv=False), AttentionSpec(4096, 32))
    assert apart["query, key and value"].choice == "three matmuls"
    assert "wqkv 4096x4096, decode" in apart


def test_a_whole_model_is_explained_down_to_its_head_and_its_layers(tmp_path):
    layer = DecoderLayerSpec(AttentionSpec(4096, 32, 8), FeedForwardSpec(4096, 14336), NormSpec(4096), NormSpec(4096))
    spec = CausalLMSpec(EmbeddingSpec(32000, 4096), (layer,) * 2, NormSpec(4096), LMHeadSpec(4096, 32000))
    path = written(tmp_path / "decoder_config.json", {"1": {"precision_cfg": {"FF2": "BFP4"}}})
    made = decisions(HardwareConfig.from_decoder_config(path), spec, prompt_length=2048)
    assert made["layer 1: ff2"].choice == "bfloat4_b with HiFi2"
    assert made["ff2"].choice == "bfloat8_b with HiFi2"
    assert made["ff1_ff3 4096x14336, prefill of 2048"].choice.startswith("2d multicast")
    assert made["ff2 14336x4096, decode"].choice == "1d multicast, 1x2 tiles a core, K by 2"
    assert made["lm_head 4096x32000, decode"].choice.startswith("1d multicast")
    assert made["attention, prefill of 2048"].choice == "8x8 cores, chunks of 256"


def test_small_weights_and_a_config_that_says_so_leave_the_programs_to_ttnn():
    assert decisions(HardwareConfig(), AttentionSpec(576, 9, 3))["wqkv 576x960, decode"].choice == "automatic"
    config = HardwareConfig(matmul_programs="automatic")
    assert decisions(config, AttentionSpec(4096, 32))["wo 4096x4096, decode"].choice == "automatic"


def test_a_wide_model_keeps_its_blocks_in_l1_where_they_fit():
    made = decisions(HardwareConfig(), AttentionSpec(16384, 128, 8))
    assert made["memory"].choice.startswith("L1, sharded")
    assert made["wo 16384x16384, decode"].choice.endswith("output in L1, width sharded")
    long = decisions(HardwareConfig(), AttentionSpec(16384, 128, 8), prompt_length=8192)
    assert long["wo 16384x16384, prefill of 8192"].choice.endswith("output in DRAM, interleaved")


@pytest.mark.parametrize("rows", [32, 640])
def test_a_wide_attention_lies_in_blocks_and_computes_the_same(rows):
    device, x = td.open_device("emulated", engine="ideal"), torch.randn(1, rows, 8224)
    attention = MultiHeadAttention(AttentionSpec(8224, 1, head_dim=32, max_sequence_length=rows), device=device)
    ttnn = attention.ttnn
    on_device = ttnn.from_torch(x[None], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    assert attention.stays_in_l1
    in_blocks = ttnn.to_torch(attention(on_device))
    attention.stays_in_l1 = False
    assert torch.equal(in_blocks, ttnn.to_torch(attention(on_device)))
