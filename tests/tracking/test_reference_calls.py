# SPDX-License-Identifier: Apache-2.0
"""Calls of a torch model made again: the same input gives the same bits, in decode too, and caches go their own way."""

import pytest
import torch
from tiny_llamas import tiny_llama
from transformers import DynamicCache

from families.random_models import ARCHITECTURES, random_model
from tttdebug.errors import PairingError
from tttdebug.tracking.reference_calls import CallCapture, answering, input_of, replaced
from tttdebug.tracking.torch_cache import cache_argument, fork, in_dtype, keys_and_values


def gpt2():
    import transformers

    config = transformers.GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    return random_model(config, ARCHITECTURES["gpt2"][0], 0)


@pytest.fixture(params=["llama", "gpt2"])  # of which one hands its cache by name, the other by place
def model(request):
    return tiny_llama(5, num_hidden_layers=2) if request.param == "llama" else gpt2()


def layers_of(model):
    layers = model.model.layers if hasattr(model, "model") else model.transformer.h
    return {f"L{i:02d}.layer_out": layer for i, layer in enumerate(layers)}


def forward(model, ids, cache):
    with torch.no_grad(), CallCapture(layers_of(model)) as capture:
        output = model(torch.tensor([ids]), use_cache=True, **{cache_argument(model): cache})
    return output, capture.calls


def test_every_call_can_be_made_again_as_often_as_wanted(model):
    cache = DynamicCache()
    _, prefill = forward(model, [5, 6, 7, 8], cache)
    _, step = forward(model, [9], cache)
    for calls in (prefill, step, prefill, step):
        for call in calls.values():
            assert torch.equal(call.again(), call.output_tensor)
    assert keys_and_values(cache, 0)[0].shape[2] == 5


def test_another_input_goes_through_what_comes_after(model):
    cache = DynamicCache()
    _, calls = forward(model, [5, 6, 7, 8], cache)
    first, second = calls.values()
    x = second.input + 0.5
    assert torch.equal(second.again(x), second.again(x))
    assert not torch.equal(second.again(x), second.output_tensor)
    assert torch.equal(second.again(first.output_tensor), second.output_tensor)


def test_parts_can_be_answered_for(model):
    _, calls = forward(model, [5, 6, 7], DynamicCache())
    call = calls["L00.layer_out"]
    layer = call.module
    part = layer.mlp
    given = torch.full_like(call.output_tensor, 3.0)
    with_part = call.again(parts={part: given})
    without = call.again(parts={part: torch.zeros_like(given)})
    assert torch.allclose(with_part - without, given, atol=1e-4)
    assert torch.equal(call.again(), call.output_tensor)


def test_answering_puts_everything_back_when_the_block_raises(model):
    layer = next(iter(layers_of(model).values()))
    own = layer.forward
    with pytest.raises(ValueError, match="stop"), answering({layer: None}):
        raise ValueError("stop")
    assert layer.forward == own
    assert "forward" not in vars(layer)


def test_a_fork_goes_its_own_way(model):
    cache = DynamicCache()
    forward(model, [5, 6, 7], cache)
    forked, rounded = fork(cache), in_dtype(cache, torch.bfloat16)
    forward(model, [8, 9], forked)
    assert keys_and_values(cache, 1)[0].shape[2] == 3
    assert keys_and_values(forked, 1)[0].shape[2] == 5
    assert keys_and_values(rounded, 1)[0].dtype == torch.bfloat16
    assert keys_and_values(cache, 1)[0].dtype == torch.float32


def test_inputs_can_be_changed_on_the_way(model):
    first = next(iter(layers_of(model)))
    seen = {}

    def zeros(boundary, x):
        seen[boundary] = x
        return torch.zeros_like(x) if boundary == first else None

    with torch.no_grad(), CallCapture(layers_of(model), change_input=zeros) as capture:
        model(torch.tensor([[5, 6]]), use_cache=False)
    assert not capture.calls[first].input.any()
    assert seen.keys() == capture.calls.keys()


def test_outputs_of_any_shape_take_another_tensor():
    old, new, other = torch.ones(1), torch.zeros(1), torch.ones(2)
    assert replaced(old, old, new) is new
    assert replaced((other, [old]), old, new) == (other, [new])
    assert replaced({"a": old, "b": other}, old, new) == {"a": new, "b": other}


def test_a_module_without_a_tensor_is_named():
    with pytest.raises(PairingError, match="without a tensor"):
        input_of((1, "two"), {"three": None})
