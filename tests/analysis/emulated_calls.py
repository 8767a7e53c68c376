# SPDX-License-Identifier: Apache-2.0
"""Calls of modules that really run on the emulator, healthy or with a fault in them, as `ModuleCall`s.

T tokens, D hidden.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.mathematics import Arithmetic, AttentionSteps, Memory, Numbers, compute, default_steps
from tttdebug.analysis.mathematics.attention import project
from tttdebug.analysis.module_call import KeysValues, ModuleCall
from tttdebug.backends import namespace_of, open_device, to_torch
from tttdebug.modules import HardwareConfig, LMHead, MultiHeadAttention
from tttdebug.modules.embedding import embedding_class
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.mixture_of_experts import MixtureOfExperts
from tttdebug.modules.plain_feed_forward import feed_forward_class
from tttdebug.modules.positions import PromptPositions, StepPositions, ids_on_device
from tttdebug.modules.weight_shapes import weight_shapes
from tttdebug.specs import AttentionSpec, EmbeddingSpec, FeedForwardSpec, LMHeadSpec, MixtureOfExpertsSpec, NormSpec
from tttdebug.tracking.record import Key

KINDS = {
    AttentionSpec: "attention",
    FeedForwardSpec: "feed_forward",
    NormSpec: "norm",
    MixtureOfExpertsSpec: "mixture",
    EmbeddingSpec: "embedding",
    LMHeadSpec: "lm_head",
}
CLASSES = {AttentionSpec: MultiHeadAttention, MixtureOfExpertsSpec: MixtureOfExperts, LMHeadSpec: LMHead}


class Exactly:
    """A format that changes nothing."""

    dtype = "float32"

    def quantise(self, weight):
        return weight

    def read_input(self, x):
        return x


def weights_for(spec, seed=0):
    """Weights as a trained module has them: queries and keys that attend, gains and biases that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        drawn = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            weights[name] = drawn * (1.5 if name in ("wq", "wk") else 1.0) * shape[1] ** -0.5
        elif name.rpartition(".")[2] == "weight":
            weights[name] = 0.3 * drawn + (0.0 if "unit_offset=True" in repr(spec) else 1.0)
        else:
            weights[name] = 0.3 * drawn
    return weights


def input_for(spec, tokens=96, seed=1):
    """Hidden states in bfloat16, some channels larger than others; ids for an embedding."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(spec, EmbeddingSpec):
        return torch.randint(spec.vocab_size, (tokens,), generator=generator)
    x_TD = torch.randn(tokens, spec.hidden_dim, generator=generator)
    return (x_TD * (0.5 + torch.rand(spec.hidden_dim, generator=generator))).bfloat16().float()


def port_class(spec):
    if isinstance(spec, NormSpec):
        return norm_class(spec)
    if isinstance(spec, EmbeddingSpec):
        return embedding_class(spec)
    return feed_forward_class(spec) if isinstance(spec, FeedForwardSpec) else CLASSES[type(spec)]


def built(spec, weights, hw_config, device=None):
    return port_class(spec)(spec, weights, device or open_device("emulated", engine="fast"), hw_config)


def run(port, x_TD):
    """What the port's module gives for a prompt."""
    ttnn = namespace_of(port.device)
    if not x_TD.is_floating_point():
        return to_torch(port(ids_on_device(ttnn, port.device, x_TD[None]))).float()[0, 0, : len(x_TD)]
    x_11TD = ttnn.from_torch(x_TD[None, None], ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=port.device)
    return to_torch(port(x_11TD)).float()[0, 0, : len(x_TD)]


def mathematics(call, weights=None, formats=None):
    """What the module should give, with weights as they are or in those formats."""
    weights = call.weights if weights is None else weights
    formats = dict.fromkeys(weights, Exactly()) if formats is None else formats
    arithmetic = Arithmetic(weights, Numbers(formats), Memory(call.input_TD))
    return compute(call, call.spec, arithmetic, default_steps(call.spec))


def call_of(spec, weights=None, faulty=None, *, precision="accuracy", tokens=96, layer=None, weights_of_layer=None):
    """A call of the port's module that `faulty` makes: a function of (spec, weights, hw_config) to a tensor [T, D].

    Without it the port is healthy. The floor is what the healthy port gives against fp32.
    """
    weights = weights_for(spec) if weights is None else weights
    hw_config, x_TD = HardwareConfig.preset(precision), input_for(spec, tokens)
    healthy = built(spec, weights, hw_config)
    given = run(healthy, x_TD)
    call = ModuleCall(
        Key("L01.module", mode="isolated"),
        KINDS[type(spec)],
        spec,
        weights,
        dict(healthy.declared_formats()),
        x_TD,
        x_TD,
        given,
        0.0,
        torch.arange(tokens),
        layer=layer,
        weights_of_layer=weights_of_layer or (lambda layer: None),
    )
    reference_TD = mathematics(call)
    call = replace(call, reference_TC=reference_TD, floor_rel_l2=rel_l2(given, reference_TD))
    if faulty is None:
        return call
    return replace(call, port_TC=faulty(spec, weights, hw_config, x_TD))


def step_of(spec, weights=None, *, precision="bf16", before=70, given=None, fault=None):
    """A decode step of an attention at position `before`, behind a prompt that the port has in its cache.

    `given` makes the port's module of (spec, weights, hw_config, device); `fault` changes it between prompt and step,
    and may give the position at which the port takes the step.
    """
    weights = weights_for(spec) if weights is None else weights
    hw_config, x_TD = HardwareConfig.preset(precision), input_for(spec, before + 1)
    healthy = built(spec, weights, hw_config)
    faulty = healthy if given is None else given(spec, weights, hw_config, healthy.device)
    call = ModuleCall(
        Key("L01.self_attn", phase="decode", mode="isolated"),
        "attention",
        spec,
        weights,
        dict(healthy.declared_formats()),
        x_TD[-1:],
        x_TD[-1:],
        x_TD[-1:],
        0.0,
        torch.tensor([before]),
        past=past_of(spec, weights, x_TD[:-1]),
    )
    reference_TD = mathematics(call)
    floor = rel_l2(_step(healthy, healthy, x_TD, before, None), reference_TD)
    given_TD = _step(healthy, faulty, x_TD, before, fault)
    return replace(call, reference_TC=reference_TD, port_TC=given_TD, floor_rel_l2=floor)


def past_of(spec, weights, x_PD):
    """The keys and values of a prompt, as the reference caches them."""
    arithmetic = Arithmetic(weights, Numbers(dict.fromkeys(weights, Exactly())), Memory(x_PD))
    heads = project(spec, arithmetic, torch.arange(len(x_PD)), None, AttentionSteps())
    return KeysValues(heads.keys_KSE, heads.values_KSE)


def _step(healthy, port, x_TD, before, fault):
    """A step of `port` with the cache that a healthy module filled, as an isolated module has it."""
    ttnn = port.ttnn
    healthy.allocate_cache(1, 128)
    padded = torch.nn.functional.pad(x_TD[:-1], (0, 0, 0, -before % 32))
    prompt = ttnn.from_torch(padded[None, None], ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=port.device)
    healthy.prefill_forward(prompt, PromptPositions(port.device, before))
    port.cache = healthy.cache
    position = fault(port) if fault is not None else None
    step = torch.nn.functional.pad(x_TD[-1:], (0, 0, 0, 31))[None, None]
    step = ttnn.from_torch(step, ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=port.device)
    positions = StepPositions(port.device, torch.tensor([before if position is None else position]))
    return to_torch(port.decode_forward(step, positions)).float()[0, 0, :1]


def with_spec(**changes):
    """The port is built from another spec."""
    return lambda spec, weights, hw, x: run(built(replace(spec, **changes), weights, hw), x)


def with_weights(change):
    """The port is given other weights."""
    return lambda spec, weights, hw, x: run(built(spec, change(dict(weights)), hw), x)


def with_config(**changes):
    """The port is built with another hardware config than declared."""
    return lambda spec, weights, hw, x: run(built(spec, weights, hw.replace(**changes)), x)


def with_output(change):
    """The healthy port's output changed."""
    return lambda spec, weights, hw, x: change(run(built(spec, weights, hw), x))
