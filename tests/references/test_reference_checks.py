# SPDX-License-Identifier: Apache-2.0
"""A reference that cannot be trusted is caught before anything is compared with it; a trained one is never accused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny_llamas import tiny_llama
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tttdebug.errors import ReferenceCheckError
from tttdebug.references import Reference, check_reference, load_reference
from tttdebug.references.checks import drawn_at_random

TOKENS = [3, 17, 60, 17, 5, 80]


@pytest.fixture
def trained() -> Reference:
    """A reference whose weights are uneven, as training leaves them."""
    model = tiny_llama()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(torch.linspace(0.2, 2.0, parameter.shape[0])[:, None])
    return load_reference(model)


def refusal(reference: Reference, tokens: list[int] = TOKENS) -> str:
    with pytest.raises(ReferenceCheckError) as caught:
        check_reference(reference, tokens)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_reference_passes(trained: Reference) -> None:
    checks = check_reference(trained, TOKENS)
    assert checks.parameters == sum(parameter.numel() for parameter in trained.model.parameters())
    assert (checks.tokens, checks.distinct_tokens) == (6, 5)
    assert checks.logits_std > 0
    logits = trained.model(torch.tensor([TOKENS])).logits[0]
    chances = [logits[at].log_softmax(-1)[TOKENS[at + 1]].item() for at in range(5)]
    assert checks.perplexity == pytest.approx(math.exp(-sum(chances) / 5), rel=1e-5)
    assert math.isnan(check_reference(trained, [7]).perplexity)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [64, 256])
def test_a_model_fresh_from_its_class_is_caught(seed: int, size: int) -> None:
    torch.manual_seed(seed)
    fresh = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=200, hidden_size=size, intermediate_size=2 * size, num_hidden_layers=1, num_attention_heads=4
        )
    )
    assert "drawn at random" in refusal(load_reference(fresh))


def test_one_layer_that_was_not_loaded_is_caught_and_named(trained: Reference) -> None:
    weight = trained.model.model.layers[1].mlp.up_proj.weight
    torch.manual_seed(0)
    nn.init.normal_(weight, std=trained.config.initializer_range)
    assert "model.layers.1.mlp.up_proj.weight" in refusal(trained)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # what nn.Linear starts with
    assert "model.layers.1.mlp.up_proj.weight" in refusal(trained)


@pytest.mark.parametrize(("shape", "seeds"), [((32, 64), 100), ((64, 64), 100), ((192, 576), 30), ((600, 1500), 5)])
def test_draws_are_recognised_whatever_the_seed(shape: tuple[int, int], seeds: int) -> None:
    for seed in range(seeds):
        torch.manual_seed(seed)
        assert drawn_at_random(torch.randn(shape) * 0.02, 0.02)
        assert drawn_at_random(nn.Linear(shape[1], shape[0]).weight, 0.02)


def test_uneven_rows_or_columns_are_a_sign_of_training_at_any_scale() -> None:
    torch.manual_seed(0)
    scale = torch.linspace(0.8, 1.2, 512)
    for uneven in (torch.randn(512, 512) * scale, torch.randn(512, 512) * scale[:, None]):
        assert not drawn_at_random(uneven / uneven.std() * 0.02, 0.02)
    assert not drawn_at_random(torch.zeros(64, 64), 0.02)


def test_values_that_are_not_finite_are_caught(trained: Reference) -> None:
    weight = trained.model.model.layers[0].self_attn.o_proj.weight
    for value in (math.nan, math.inf):
        good, weight[1, 2] = weight[1, 2].item(), value
        assert "model.layers.0.self_attn.o_proj.weight" in refusal(trained)
        weight[1, 2] = good
    trained.model.lm_head.weight.mul_(1e37)
    trained.model.model.norm.weight.mul_(1e10)
    assert "logits are not finite" in refusal(trained)


def test_constant_outputs_are_caught(trained: Reference) -> None:
    trained.model.lm_head.weight.zero_()
    assert "constant" in refusal(trained)


def test_a_reference_that_is_not_repeatable_is_caught(trained: Reference) -> None:
    trained.model.model.layers[0].mlp.register_forward_hook(
        lambda module, given, output: output + torch.rand(()) * 1e-3
    )
    assert "two runs of the reference differ" in refusal(trained)


def test_tokens_that_hide_faults_are_refused(trained: Reference) -> None:
    assert "all 4 tokens are the same" in refusal(trained, [5, 5, 5, 5])
    assert "no tokens" in refusal(trained, [])
    assert "token 96 is outside" in refusal(trained, [3, 96])
    assert dataclasses.asdict(check_reference(trained, [5]))["tokens"] == 1
