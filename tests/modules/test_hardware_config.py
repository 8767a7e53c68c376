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
from tttdebug.modules.decoder_config import DTYPES, KERNELS, OP_GROUPS, TENSOR_GROUPS
from tttdebug.specs import AttentionSpec


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


def test_a_file_changes_the_layers_it_names_and_no_other(tmp_path):
    setting = {"precision_cfg": {"FF1_FF3": "BFP4"}, "fidelity_cfg": {"LI_FF1_FF3": "LOFI"}}
    config = HardwareConfig.from_decoder_config(written(tmp_path / "decoder_config.json", {"1": setting}))
    port = td.build_model(td.load_reference(tiny_llama(head_dim=32)), td.open_device("emulated"), hw_config=config)
    kept = [layer.feed_forward.weight_formats["w1"] for layer in port.layers]
    assert [(kind.dtype, kind.fidelity) for kind in kept] == [("bfloat8_b", "HiFi2"), ("bfloat4_b", "LoFi")]


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


def test_every_decision_is_explained():
    device = td.open_device("emulated")
    decisions = {d.about: d for d in HardwareConfig.preset("performance").explain(AttentionSpec(4096, 32), device)}
    assert decisions["ff1_ff3"].choice == "bfloat4_b with LoFi"
    assert decisions["wqkv"].why
    assert decisions["memory"].choice == "DRAM, interleaved"
    wide = {d.about: d.choice for d in HardwareConfig().explain(AttentionSpec(16384, 128), device)}
    assert wide["memory"] == "L1, block sharded"


def test_a_wide_attention_lies_in_blocks_and_computes_the_same():
    device, x = td.open_device("emulated", engine="ideal"), torch.randn(1, 32, 8224)
    attention = MultiHeadAttention(AttentionSpec(8224, 1, head_dim=32, max_sequence_length=32), device=device)
    ttnn = attention.ttnn
    on_device = ttnn.from_torch(x[None], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    in_blocks = ttnn.to_torch(attention(on_device))
    attention.is_block_sharded = False
    assert torch.equal(in_blocks, ttnn.to_torch(attention(on_device)))
