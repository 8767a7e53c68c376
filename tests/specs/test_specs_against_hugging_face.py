# SPDX-License-Identifier: Apache-2.0
"""A spec read from a config says all of the mathematics: computed word for word, it gives the model's own outputs."""

from __future__ import annotations

import pytest
import spec_in_torch
import torch
from hugging_face_weights import plain_weights
from tiny_models import FAMILIES, random_inputs, random_model, spec_of

from tttdebug.specs import CausalLMSpec, MixtureOfExpertsSpec


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_spec_computes_what_the_model_computes(family):
    model, inputs = random_model(family), random_inputs(family)
    spec = spec_of(model)
    weights = spec_in_torch.Weights(plain_weights(model, spec.layers[0].attention))
    with torch.no_grad():
        output = model(inputs)
        if isinstance(spec, CausalLMSpec):
            expected, computed = output.logits, spec_in_torch.causal_lm(spec, weights, inputs)
        else:
            expected = output.logits if spec.classifier is not None else output.pooler_output
            computed = spec_in_torch.encoder(spec, weights, inputs)
    rel_l2 = (computed - expected).norm() / expected.norm()
    assert rel_l2 < 1e-5, f"{family.model_class}: rel_l2 {rel_l2:.2e}"


def _every_layer(spec, change):
    return spec.replace(layers=tuple(change(layer) for layer in spec.layers))


def _attention(**changes):
    return lambda spec: _every_layer(spec, lambda layer: layer.replace(attention=layer.attention.replace(**changes)))


def _rope(**changes):
    def change(layer):
        return layer.replace(attention=layer.attention.replace(rope=layer.attention.rope.replace(**changes)))

    return lambda spec: _every_layer(spec, change)


def _feed_forward(**changes):
    return lambda spec: _every_layer(
        spec, lambda layer: layer.replace(feed_forward=layer.feed_forward.replace(**changes))
    )


def _mixture(**changes):
    def change(layer):
        is_mixture = isinstance(layer.feed_forward, MixtureOfExpertsSpec)
        return layer.replace(feed_forward=layer.feed_forward.replace(**changes)) if is_mixture else layer

    return lambda spec: _every_layer(spec, change)


def _embedding(**changes):
    return lambda spec: spec.replace(embedding=spec.embedding.replace(**changes))


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        ("llama", _rope(theta=5000.0)),
        ("llama_linear", _rope(scaling="default", factor=1.0)),
        ("llama_llama3", _rope(high_freq_factor=3.0)),
        ("llama_yarn", _rope(mscale=0.5)),
        ("llama_yarn", _rope(beta_fast=16.0)),
        ("phi3", _rope(rotary_dim=None)),
        ("mistral", _attention(sliding_window=6)),
        ("qwen3", _attention(scale=0.3)),
        ("gemma2", _attention(logit_softcap=None)),
        ("gemma2", _attention(sliding_window=None)),
        ("gemma2", _attention(scale=None)),
        ("gemma2", _embedding(scale=None)),
        ("gemma2", lambda spec: spec.replace(lm_head=spec.lm_head.replace(logit_softcap=None))),
        ("gemma2", lambda spec: spec.replace(final_norm=spec.final_norm.replace(unit_offset=False))),
        ("gemma3", lambda spec: spec.replace(final_norm=spec.final_norm.replace(eps=1e-2))),
        ("gemma3", _rope(theta=1e6)),
        ("gpt2", _feed_forward(activation="gelu")),
        ("mixtral", _feed_forward(normalise_scores=False)),
        ("qwen2_moe", _mixture(shared_expert_gate=False)),
        ("glm4_moe", _mixture(router_scoring="softmax")),
        ("glm4_moe", _mixture(selection_bias=False)),
        ("glm4_moe", _mixture(routed_scale=1.0)),
        ("gpt_neox", lambda spec: _every_layer(spec, lambda layer: layer.replace(parallel_residual=False))),
        ("phi", _rope(rotary_dim=None)),
        ("cohere", lambda spec: spec.replace(lm_head=spec.lm_head.replace(logit_scale=None))),
        ("qwen3_moe", lambda spec: spec.replace(layers=spec.layers[:2])),
    ],
)
def test_a_wrong_spec_does_not_compute_it(family, wrong):
    model, inputs = random_model(FAMILIES[family]), random_inputs(FAMILIES[family])
    spec = spec_of(model)
    weights = spec_in_torch.Weights(plain_weights(model, spec.layers[0].attention))
    with torch.no_grad():
        right, computed = (spec_in_torch.causal_lm(each, weights, inputs) for each in (spec, wrong(spec)))
    assert (computed - right).norm() / right.norm() > 1e-4
