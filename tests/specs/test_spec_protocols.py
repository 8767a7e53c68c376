# SPDX-License-Identifier: Apache-2.0
"""Objects of the user's own stand in for specs: what they must offer, why one does not, the spec they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from spec_strategies import any_spec_class_with_arguments

import tttdebug.specs as specs
from tttdebug.errors import SpecError
from tttdebug.specs import (
    AttentionSpec,
    AttentionSpecLike,
    DecoderLayerSpec,
    DecoderLayerSpecLike,
    FeedForwardSpec,
    InvalidSpecError,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
    NormSpecLike,
    as_spec,
    explain_mismatch,
)
from tttdebug.specs.conformance import protocol_of


class MinimalAttentionSpec:
    """As in the design."""

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


class RichAttentionSpec:
    """As in the design: richer, from a configuration."""

    def __init__(self, config: dict[str, Any]):
        self.config = config

    @property
    def hidden_dim(self) -> int:
        return self.config["hidden_dim"]

    @property
    def num_heads(self) -> int:
        return self.config["num_heads"]

    @property
    def num_kv_heads(self) -> int:
        return self.config["num_kv_heads"]

    @property
    def head_dim(self) -> int:
        return self.config["head_dim"]


@dataclass
class Bag:
    """Any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def norm_bag(**changes: Any) -> Bag:
    return Bag(**{"hidden_dim": 64, "eps": 1e-6, "norm_type": "rmsnorm", **changes})


def test_the_classes_of_the_design_stand_in():
    minimal, rich = (
        MinimalAttentionSpec(4096, 32),
        RichAttentionSpec({"hidden_dim": 4096, "num_heads": 32, "num_kv_heads": 8, "head_dim": 64}),
    )
    assert isinstance(minimal, AttentionSpecLike)
    assert isinstance(rich, AttentionSpecLike)
    assert as_spec(minimal, AttentionSpec) == AttentionSpec(4096, 32)
    assert as_spec(rich, AttentionSpec) == AttentionSpec(4096, 32, 8, 64)


@given(any_spec_class_with_arguments)
@settings(deadline=None)
def test_every_spec_satisfies_its_own_protocol(class_and_arguments):
    spec_class, arguments = class_and_arguments
    spec = spec_class(**arguments)
    assert isinstance(spec, protocol_of(spec_class))
    assert explain_mismatch(spec, protocol_of(spec_class)) == ()
    assert as_spec(spec, spec_class) is spec


@given(any_spec_class_with_arguments)
@settings(deadline=None)
def test_an_object_with_the_same_fields_is_the_same_spec(class_and_arguments):
    spec_class, arguments = class_and_arguments
    spec = spec_class(**arguments)

    def bag(value: Any) -> Any:
        if isinstance(value, ModuleSpec):
            return Bag(**{name: bag(getattr(value, name)) for name in type(value).__dataclass_fields__})
        return [bag(item) for item in value] if isinstance(value, tuple) else value

    assert as_spec(bag(spec), spec_class) == spec


def test_every_spec_has_a_protocol_that_is_exported():
    for kind in ModuleSpec.KINDS.values():
        if kind.__module__.startswith("tttdebug."):
            assert getattr(specs, f"{kind.__name__}Like") is protocol_of(kind)


def test_a_missing_member_is_named_and_its_near_miss():
    (violation,) = explain_mismatch(Bag(hidden_dim=64, num_head=4, head_dim=16), AttentionSpecLike)
    assert str(violation) == "num_heads is missing: num_head is there; is it meant?"
    assert not isinstance(Bag(hidden_dim=64, head_dim=16), AttentionSpecLike)


def test_a_method_is_no_value():
    class Norm:
        hidden_dim, norm_type = 64, "rmsnorm"

        def eps(self) -> float:
            return 1e-6

    (violation,) = explain_mismatch(Norm(), NormSpecLike)
    assert str(violation) == "eps is a method: make it a property or an attribute"


def test_a_member_of_the_wrong_type_is_named():
    (violation,) = explain_mismatch(norm_bag(eps="1e-6"), NormSpecLike)
    assert violation.field == "eps"
    assert isinstance(norm_bag(eps="1e-6"), NormSpecLike), "isinstance looks at names only"


def test_mismatches_inside_are_named_by_their_path():
    layer = Bag(
        attention=Bag(hidden_dim=64, num_heads=4),
        feed_forward=Bag(hidden_dim=64, intermediate_dim=96, activation="gelu"),
        input_norm=norm_bag(),
        post_attention_norm=norm_bag(eps=None),
    )
    fields = [violation.field for violation in explain_mismatch(layer, DecoderLayerSpecLike)]
    assert fields == ["attention.head_dim", "post_attention_norm.eps"]
    with pytest.raises(InvalidSpecError, match=r"Bag as DecoderLayerSpec breaks 2 rules"):
        as_spec(layer, DecoderLayerSpec)


def test_values_are_validated_as_in_the_spec():
    with pytest.raises(InvalidSpecError, match="num_kv_heads=3 must divide num_heads"):
        as_spec(Bag(hidden_dim=64, num_heads=4, head_dim=16, num_kv_heads=3), AttentionSpec)


def test_the_better_of_two_kinds_is_taken():
    expert = Bag(hidden_dim=64, intermediate_dim=96, activation="swiglu")
    attention = Bag(hidden_dim=64, num_heads=4, head_dim=16)
    layer = Bag(attention=attention, feed_forward=expert, input_norm=norm_bag(), post_attention_norm=norm_bag())
    assert as_spec(layer, DecoderLayerSpec).feed_forward == FeedForwardSpec(64, 96)
    layer.feed_forward = Bag(expert=expert, num_experts=4, experts_per_token=2)
    assert as_spec(layer, DecoderLayerSpec).feed_forward == MixtureOfExpertsSpec(FeedForwardSpec(64, 96), 4, 2)


def test_a_spec_class_of_ones_own_without_a_protocol():
    with pytest.raises(SpecError, match="ModuleSpec has no protocol"):
        as_spec(Bag(), ModuleSpec)


def test_a_spec_of_another_kind_does_not_stand_in():
    with pytest.raises(InvalidSpecError, match="NormSpec as AttentionSpec"):
        as_spec(NormSpec(64), AttentionSpec)
