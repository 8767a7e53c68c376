# SPDX-License-Identifier: Apache-2.0
"""A small Llama, ports of it with planted faults, and runs of them."""

from __future__ import annotations

import torch
from tiny_llamas import tiny_llama

import tttdebug as td

LAYERS = 5
SHAPE = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": LAYERS,
    "vocab_size": 128,
    "intermediate_size": 160,
}
PROMPTS = [list(range(3, 40)), list(range(50, 90))]


def small_reference(**fields):
    return td.load_reference(tiny_llama(7, **SHAPE | fields))


def weights_with(reference, *layers, change=None):
    """The checkpoint with gate and up exchanged in these layers, then changed."""
    state = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    for layer in layers:
        gate, up = (f"model.layers.{layer}.mlp.{part}_proj.weight" for part in ("gate", "up"))
        state[gate], state[up] = state[up], state[gate]
    if change is not None:
        change(state)
    return state


def port_with(reference, *layers, change=None, engine="fast"):
    device = td.open_device("emulated", engine=engine)
    return td.build_model(reference, device, "bf16", weights=weights_with(reference, *layers, change=change))


def subject_of(port, reference, prompts=PROMPTS[:1], steps=1):
    return td.track(port, reference, prompts, steps).subject


def logits_of(port, token_ids=tuple(PROMPTS[0])):
    port.allocate_cache(1, 64)
    prefill = port.ttnn.to_torch(port.prefill(torch.tensor(token_ids), 0))
    step = port.decode(torch.tensor([5]), torch.tensor([len(token_ids)]))
    return prefill, port.ttnn.to_torch(step)[:, :, :1]
