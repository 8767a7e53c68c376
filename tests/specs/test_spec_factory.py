# SPDX-License-Identifier: Apache-2.0
"""The factory: four dialects of configurations, one result; nothing that changes the mathematics goes unread."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from tiny_models import DECODER, FAMILIES, IS_TRANSFORMERS_5

from tttdebug.errors import SpecError
from tttdebug.specs import (
    Architecture,
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    ModuleSpecFactory,
    NormSpec,
    RopeSpec,
)
from tttdebug.specs.architectures import ARCHITECTURES
from tttdebug.specs.dialects import DIALECTS
from tttdebug.specs.facts import FACTS, stated_fact

LLAMA_3_2_1B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
LLAMA_3_2_1B_META = {
    "dim": 2048,
    "ffn_dim_multiplier": 1.5,
    "multiple_of": 256,
    "n_heads": 32,
    "n_kv_heads": 8,
    "n_layers": 16,
    "norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "use_scaled_rope": True,
    "rope_scaling_factor": 32,
    "vocab_size": 128256,
    "max_seq_len": 131072,
    "tie_word_embeddings": True,
}
SMOLLM2_GGUF = {
    "general.architecture": "llama",
    "general.name": "Smollm2 135M 8k Lc100K Mix1 Ep2",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,  # 1e-5 in 32 bits
    "llama.rope.freq_base": 100000.0,
    "llama.rope.dimension_count": 64,
    "llama.vocab_size": 49152,
    "general.file_type": 3,
    "tokenizer.ggml.model": "gpt2",
    "tie_word_embeddings": True,
}


@pytest.fixture
def warnings():
    """The warnings that are logged."""
    messages: list[str] = []
    handler = logger.add(
        lambda message: messages.append(message.record["message"]), level="WARNING", format="{message}"
    )
    yield messages
    logger.remove(handler)


def read(config: Any) -> ModuleSpec:
    model_type = config.get("model_type") if isinstance(config, dict) else config.model_type
    if model_type in ("bert", "vit"):
        return ModuleSpecFactory.encoder_from_config(config)
    return ModuleSpecFactory.causal_lm_from_config(config)


def read_or_error(config: Any, part: Callable[[Any], ModuleSpec] = read) -> ModuleSpec | SpecError:
    try:
        return part(config)
    except SpecError as error:
        return error


def test_the_examples_of_the_design():
    assert ModuleSpecFactory.attention_from_config({"n_embd": 768, "n_heads": 12}) == AttentionSpec(768, 12)
    assert ModuleSpecFactory.attention_from_config({"n_embd": 768, "n_head": 12}) == AttentionSpec(768, 12)
    assert ModuleSpecFactory.attention_from_config({"hidden_size": 4096, "num_attention_heads": 32}) == AttentionSpec(
        4096, 32
    )


def test_a_whole_llama():
    rope = RopeSpec(500000.0, "llama3", 32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position=8192)
    spec = ModuleSpecFactory.causal_lm_from_config(LLAMA_3_2_1B)
    assert (spec.num_layers, spec.hidden_dim, spec.vocab_size) == (16, 2048, 128256)
    assert set(spec.layers) == {ModuleSpecFactory.decoder_layer_from_config(LLAMA_3_2_1B, layer=15)}
    assert spec.layers[0].attention == AttentionSpec(2048, 32, 8, rope=rope, max_sequence_length=131072)
    assert spec.layers[0].feed_forward == FeedForwardSpec(2048, 8192)
    assert spec.final_norm == ModuleSpecFactory.norm_from_config(LLAMA_3_2_1B) == NormSpec(2048)
    assert spec.embedding == ModuleSpecFactory.embedding_from_config(LLAMA_3_2_1B) == EmbeddingSpec(128256, 2048)
    assert spec.lm_head == ModuleSpecFactory.lm_head_from_config(LLAMA_3_2_1B) == LMHeadSpec(2048, 128256, tied=True)


def test_metas_params_say_the_same_as_hugging_faces_config():
    assert read(LLAMA_3_2_1B_META) == read(LLAMA_3_2_1B)


def test_gguf_metadata_say_the_same_as_hugging_faces_config():
    config = transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        **({"rope_parameters": {"rope_theta": 1e5}} if IS_TRANSFORMERS_5 else {"rope_theta": 1e5}),
    )
    assert read(SMOLLM2_GGUF) == read(config)


def test_what_gguf_metadata_do_not_say_must_be_added():
    with pytest.raises(SpecError, match="the GGUF config has no 'tie_word_embeddings': add it"):
        read({key: value for key, value in SMOLLM2_GGUF.items() if key != "tie_word_embeddings"})
    llama_3 = {**SMOLLM2_GGUF, "llama.rope.freq_base": 500000.0}
    with pytest.raises(SpecError, match="does not say how a Llama 3 scales its rotary frequencies"):
        read(llama_3)
    spec = read({**llama_3, "rope_scaling": LLAMA_3_2_1B["rope_scaling"]})
    assert spec.layers[0].attention.rope.factor == 32.0
    assert read({**llama_3, "rope_scaling": {"rope_type": "default"}}).layers[0].attention.rope == RopeSpec(500000.0)


def test_both_forms_of_rotary_parameters_say_the_same():
    old = {key: value for key, value in LLAMA_3_2_1B.items() if not key.startswith("rope_")}
    new = {**old, "rope_parameters": {"rope_theta": 500000.0, **LLAMA_3_2_1B["rope_scaling"]}}
    assert read(new) == read(LLAMA_3_2_1B)


def test_gemma_norms_in_gguf_hold_the_whole_weight():
    layer = {"gemma2.attention.head_count": 8, "gemma2.attention.key_length": 256}
    config = {"general.architecture": "gemma2", "gemma2.embedding_length": 2304, **layer}
    assert not ModuleSpecFactory.norm_from_config(config).unit_offset


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_config_object_its_dict_and_its_file_are_read_alike(family):
    config = family.config()
    assert read(config.to_dict()) == read(config)
    assert read(json.loads(config.to_json_string(use_diff=True))) == read(config)
    assert ModuleSpec.from_dict(json.loads(json.dumps(read(config).to_dict()))) == read(config)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_leaving_out_a_key_never_means_something_else_than_to_hugging_face(family):
    """A key that a config leaves out has the class's default; where that is not read so, it must be an error."""
    config = family.config().to_dict()
    for key in config:
        if key in ("model_type", "transformers_version"):
            continue
        shorter = {name: value for name, value in config.items() if name != key}
        spec = read_or_error(shorter)
        if isinstance(spec, SpecError):
            assert key in str(spec), f"without {key}: {spec}"
        else:
            assert spec == read(type(family.config()).from_dict(shorter)), f"without {key}"


def test_what_hugging_face_writes_is_all_known(warnings):
    for family in FAMILIES.values():
        read(family.config())
    assert warnings == []


def test_layers_differ_where_the_config_says_so():
    qwen3 = transformers.Qwen3Config(**DECODER, use_sliding_window=True, sliding_window=7, max_window_layers=1)
    assert [layer.attention.sliding_window for layer in read(qwen3).layers] == [None, 7, 7]
    gemma3 = FAMILIES["gemma3"].config()
    assert [layer.attention.sliding_window for layer in read(gemma3).layers] == [5, 5, 5, 5, 5, None, 5]
    assert [layer.attention.rope.theta for layer in read(gemma3).layers] == [1e4] * 5 + [1e6, 1e4]
    mixture = FAMILIES["qwen3_moe"].config()
    kinds = [type(layer.feed_forward) for layer in read(mixture).layers]
    assert kinds == [MixtureOfExpertsSpec, FeedForwardSpec, MixtureOfExpertsSpec]
    assert ModuleSpecFactory.feed_forward_from_config(mixture, layer=1) == FeedForwardSpec(48, 72)
    assert ModuleSpecFactory.attention_from_config(gemma3, layer=5) == read(gemma3).layers[5].attention


def test_older_gemma_configs_say_their_pattern_in_a_number():
    config = {key: value for key, value in FAMILIES["gemma3"].config().to_dict().items() if key != "layer_types"}
    config["sliding_window_pattern"] = 3
    windows = [layer.attention.sliding_window for layer in read(config).layers]
    assert windows == [5, 5, None, 5, 5, None, 5]


def test_the_language_part_of_a_config_of_several_models(warnings):
    text = FAMILIES["gemma3"].config()
    assert read({"model_type": "gemma3_text", "text_config": text.to_dict(), "vision_config": {}}) == read(text)
    assert "text_config" in warnings[0]


def test_a_scale_that_head_dim_says_already_is_left_to_it():
    config = FAMILIES["gemma2"].config(query_pre_attn_scalar=12).to_dict()
    assert ModuleSpecFactory.attention_from_config(config).scale is None


def test_a_named_architecture_of_ones_own():
    falcon_like = Architecture(
        model_types=("falconish",),
        says={"parallel_residual": True, "norm_type": "layernorm", "norm_bias": True, "gated": False},
        usually={"nonlinearity": "gelu", "attention_bias": lambda facts: facts.get("num_heads") > 8},
    )
    config = {**LLAMA_3_2_1B, "model_type": "falconish", "hidden_act": "gelu"}
    spec = ModuleSpecFactory.causal_lm_from_config(config, architecture=falcon_like)
    assert spec.layers[0].parallel_residual
    assert spec.layers[0].attention.qkv_bias
    assert spec.layers[0].feed_forward == FeedForwardSpec(2048, 8192, "gelu")
    assert spec.final_norm == NormSpec(2048, norm_type="layernorm", bias=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_attention_heads": 32}, "the Hugging Face config has no 'hidden_size'"),
        ({"n_embd": 768, "n_layer": 2}, "the GPT-style config has no 'n_head' or 'n_heads'"),
        ({"dim": 4096, "n_layers": 2, "multiple_of": 2}, "the Meta params.json config has no 'n_heads'"),
        (
            {"general.architecture": "llama", "llama.embedding_length": 64, "llama.context_length": 8},
            r"the GGUF config has no '{arch}.attention.head_count'",
        ),
        ({}, "cannot tell what kind of config this is"),
        ({"n_heads": 32}, "cannot tell what kind of config this is"),
        (None, "config is of type NoneType: give a dict"),
        ({**LLAMA_3_2_1B, "model_type": "qwen4"}, "'qwen4' is unknown, the nearest known one is 'qwen3'"),
        ({**LLAMA_3_2_1B, "num_attention_heads": 33}, "num_kv_heads=8 must divide num_heads"),
        ({**LLAMA_3_2_1B, "hidden_size": "2048"}, "write 2048 without the quotes"),
        ({**LLAMA_3_2_1B, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "scaling='dynamic' must be one of"),
        ({**LLAMA_3_2_1B, "rope_scaling": {"rope_type": "longrope", "long_factor": [1.0]}}, "long_factor"),
        ({**LLAMA_3_2_1B, "rope_scaling": "yarn"}, "rope_scaling='yarn': give a dict"),
        ({**LLAMA_3_2_1B, "layer_types": ["linear_attention"] * 16}, "only full_attention and sliding_attention"),
        ({**LLAMA_3_2_1B, "layer_types": ["full_attention"], "sliding_window": 4}, None),
        ({**LLAMA_3_2_1B, "partial_rotary_factor": "half"}, "partial_rotary_factor'.*='half': give a number"),
    ],
)
def test_what_an_attention_cannot_be_read_from(config, message):
    if message is None:
        with pytest.raises(SpecError, match="an entry for every layer"):
            ModuleSpecFactory.attention_from_config(config, layer=1)
    else:
        with pytest.raises(SpecError, match=message):
            ModuleSpecFactory.attention_from_config(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 4096, "num_attention_heads": 32}, "config has no 'model_type'"),
        ({**LLAMA_3_2_1B, "hidden_act": "quick_gelu"}, "activation 'quick_gelu'"),
        ({**LLAMA_3_2_1B, "num_hidden_layers": 0}, "num_hidden_layers'=0: give 1 or more"),
        ({**LLAMA_3_2_1B, "num_hidden_layers": "16"}, "num_hidden_layers'='16': give a number"),
        ({**LLAMA_3_2_1B, "vocab_size": -1}, "vocab_size=-1 must be at least 1"),
        (
            {**LLAMA_3_2_1B_META, "rope_scaling_factor": None},
            "no 'rope_scaling_factor'.*8 for Llama 3.1.*32 for Llama 3.2",
        ),
        ({key: LLAMA_3_2_1B[key] for key in LLAMA_3_2_1B if key != "intermediate_size"}, "no 'intermediate_size'"),
        ({**FAMILIES["bert"].config().to_dict()}, "bert is an encoder: use encoder_from_config"),
        ({**LLAMA_3_2_1B, "hidden_activation": "gelu"}, "hidden_act='silu' and hidden_activation='gelu'"),
    ],
)
def test_what_a_model_cannot_be_read_from(config, message):
    with pytest.raises(SpecError, match=message):
        ModuleSpecFactory.causal_lm_from_config(config)


def test_an_encoder_is_not_read_from_a_decoder():
    with pytest.raises(SpecError, match="llama is a decoder: use causal_lm_from_config"):
        ModuleSpecFactory.encoder_from_config(LLAMA_3_2_1B)


@pytest.mark.parametrize("layer", [-1, 16, True, 1.0])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(SpecError, match="is not in the model: give 0 to 15"):
        ModuleSpecFactory.decoder_layer_from_config(LLAMA_3_2_1B, layer=layer)
    with pytest.raises(SpecError, match="is not in the model: give 0 to 15"):
        ModuleSpecFactory.feed_forward_from_config(LLAMA_3_2_1B, layer=layer)


@pytest.mark.parametrize(
    "keys",
    [
        {"clip_qkv": 8.0},
        {"residual_multiplier": 0.22},
        {"alibi": True},
        {"quantization_config": {"quant_method": "fp8"}},
        {"use_bidirectional_attention": True},
        {"some_new_norm": "yes"},
    ],
)
def test_an_unknown_key_that_may_change_the_mathematics_is_an_error(keys):
    (key,) = keys
    with pytest.raises(SpecError, match=f"may change the mathematics.*{key}="):
        read({**LLAMA_3_2_1B, **keys})


def test_other_unknown_keys_are_listed_in_a_warning(warnings):
    plain = read(LLAMA_3_2_1B)
    assert warnings == []
    assert read({**LLAMA_3_2_1B, "is_llama_config": True, "author": "me", "alibi": False}) == plain
    (message,) = warnings
    assert message == "config keys that were not read: is_llama_config, author, alibi"


def test_the_tables_speak_of_known_facts_only():
    stated = {stated_fact(meaning) for dialect in DIALECTS for meaning in dialect.keys.values()}
    tables = [*DIALECTS, *ARCHITECTURES]
    stated |= {fact for table in tables for fact in (*table.says, *table.usually)}
    stated |= {fact for architecture in ARCHITECTURES for fact in architecture.requires}
    assert stated <= set(FACTS)


WHOLE_CONFIGS = {
    **{name: family.config().to_dict() for name, family in FAMILIES.items()},
    "old_llama": LLAMA_3_2_1B,
    "meta": LLAMA_3_2_1B_META,
    "gguf": SMOLLM2_GGUF,
}


@given(
    name=st.sampled_from(sorted(WHOLE_CONFIGS)),
    junk=st.sampled_from(
        [None, "x", "12", -1, 0, 1.5, True, [], ["x"], [1, 2], {}, {"x": 1}, float("nan"), 1e300, object()]
    ),
    data=st.data(),
)
@settings(deadline=None, max_examples=300)
def test_damaged_configs_give_a_spec_error_and_nothing_else(name, junk, data):
    key = data.draw(st.sampled_from(sorted(WHOLE_CONFIGS[name])))
    damaged = {**WHOLE_CONFIGS[name], key: junk}
    for part in (read, ModuleSpecFactory.attention_from_config, ModuleSpecFactory.feed_forward_from_config):
        assert isinstance(read_or_error(damaged, part), (ModuleSpec, SpecError))
