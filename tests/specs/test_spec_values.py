# SPDX-License-Identifier: Apache-2.0
"""Specs are values: frozen, hashable, equal by content, changed by `replace`, kept as JSON, short to read."""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest
from hypothesis import given, settings
from spec_strategies import any_spec_class_with_arguments, attention_arguments

from tttdebug.errors import SpecError
from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    InvalidSpecError,
    LMHeadSpec,
    ModuleSpec,
    NormSpec,
    RopeSpec,
)


def small_model(**changes):
    norm = NormSpec(64)
    layer = DecoderLayerSpec(AttentionSpec(64, 4), FeedForwardSpec(64, 96), norm, norm)
    wide = layer.replace(feed_forward=FeedForwardSpec(64, 128))
    arguments = {
        "embedding": EmbeddingSpec(100, 64),
        "layers": (layer, layer, wide, layer),
        "final_norm": norm,
        "lm_head": LMHeadSpec(64, 100, tied=True),
    }
    return CausalLMSpec(**{**arguments, **changes})


def test_the_first_example_of_the_design():
    spec = AttentionSpec(hidden_dim=4096, num_heads=32)
    assert (spec.head_dim, spec.num_kv_heads, spec.q_dim, spec.kv_dim) == (128, 32, 4096, 4096)
    assert spec.softmax_scale == 128**-0.5
    assert spec.rotary_dim == 128
    assert not spec.is_grouped_query


@given(any_spec_class_with_arguments)
@settings(deadline=None)
def test_a_spec_survives_json(class_and_arguments):
    spec_class, arguments = class_and_arguments
    spec = spec_class(**arguments)
    data = json.loads(json.dumps(spec.to_dict()))
    assert spec_class.from_dict(data) == spec
    assert ModuleSpec.from_dict(data) == spec
    assert hash(ModuleSpec.from_dict(data)) == hash(spec)


@given(attention_arguments())
@settings(deadline=None)
def test_the_shown_text_makes_the_same_spec_again(arguments):
    spec = AttentionSpec(**arguments)
    names = {cls.__name__: cls for cls in (AttentionSpec, RopeSpec, NormSpec)}
    assert eval(repr(spec), names) == spec


@given(attention_arguments())
@settings(deadline=None)
def test_replacing_nothing_changes_nothing(arguments):
    spec = AttentionSpec(**arguments)
    assert spec.replace() == spec


def test_a_spec_cannot_be_changed():
    spec = NormSpec(64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.eps = 1e-6


def test_whole_numbers_count_as_numbers():
    assert RopeSpec(theta=500000) == RopeSpec(theta=500000.0)
    assert repr(RopeSpec(theta=500000)) == "RopeSpec(theta=500000.0)"


def test_a_list_of_layers_becomes_a_tuple():
    layers = list(small_model().layers)
    assert small_model(layers=layers) == small_model()


def test_giving_what_would_be_computed_is_the_same_spec():
    assert AttentionSpec(4096, 32, num_kv_heads=32, head_dim=128) == AttentionSpec(4096, 32)


def test_replace_computes_again_what_was_computed():
    spec = AttentionSpec(4096, 32)
    assert spec.replace(num_heads=16).head_dim == 256
    assert spec.replace(num_heads=16, head_dim=128).head_dim == 128
    assert AttentionSpec(4096, 32, head_dim=64).replace(num_heads=16).head_dim == 64


def test_replace_validates_and_names_unknown_fields():
    with pytest.raises(SpecError, match="num_kv_heads=3 must divide num_heads"):
        AttentionSpec(4096, 32).replace(num_kv_heads=3)
    with pytest.raises(SpecError, match="num_head is no field of AttentionSpec: did you mean num_heads"):
        AttentionSpec(4096, 32).replace(num_head=3)


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(AttentionSpec(4096, 32)) == "AttentionSpec(hidden_dim=4096, num_heads=32)"
    assert repr(AttentionSpec(4096, 32, 8, rope=None)) == (
        "AttentionSpec(hidden_dim=4096, num_heads=32, num_kv_heads=8, rope=None)"
    )


def test_repr_of_a_model_shows_equal_layers_once():
    model = small_model()
    assert "layers={0-1,3: DecoderLayerSpec(" in repr(model)
    assert "2: DecoderLayerSpec(" in repr(model)
    assert "layers=4 x DecoderLayerSpec(" in repr(model.replace(layers=model.layers[:1] * 4))


def test_specs_can_be_pickled():
    assert pickle.loads(pickle.dumps(small_model())) == small_model()


def test_a_saved_spec_says_what_it_is():
    data = NormSpec(64).to_dict()
    assert data == {
        "schema_version": 1,
        "kind": "NormSpec",
        "hidden_dim": 64,
        "eps": 1e-5,
        "norm_type": "rmsnorm",
        "unit_offset": False,
        "bias": False,
    }


def test_an_unknown_key_is_an_error():
    with pytest.raises(InvalidSpecError, match="dropout is no field of NormSpec"):
        NormSpec.from_dict({**NormSpec(64).to_dict(), "dropout": 0.1})


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_schema_is_an_error(version):
    with pytest.raises(InvalidSpecError, match="schema_version"):
        NormSpec.from_dict({**NormSpec(64).to_dict(), "schema_version": version})


@pytest.mark.parametrize("kind", ["Norm", "AttentionSpec", None, ["NormSpec"]])
def test_another_kind_is_an_error(kind):
    with pytest.raises(InvalidSpecError, match="must be one of NormSpec"):
        NormSpec.from_dict({**NormSpec(64).to_dict(), "kind": kind})


def test_reading_a_damaged_model_lists_everything_wrong_with_its_path():
    data = small_model().to_dict()
    data["layers"][2]["attention"]["num_heads"] = "4"
    data["layers"][2]["feed_forward"]["activation"] = "swish"
    del data["embedding"]["vocab_size"]
    data["max_sequence_length"] = 0
    with pytest.raises(InvalidSpecError) as caught:
        CausalLMSpec.from_dict(data)
    assert {violation.field for violation in caught.value.violations} == {
        "layers[2].attention.num_heads",
        "layers[2].feed_forward.activation",
        "embedding.vocab_size",
        "max_sequence_length",
    }
