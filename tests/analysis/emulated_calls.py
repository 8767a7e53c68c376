# SPDX-License-Identifier: Apache-2.0
"""Calls of modules that really run on the emulator, healthy or with a fault in them, as `ModuleCall`s.

T tokens, D hidden.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.mathematics import Arithmetic, Memory, Numbers, compute, default_steps
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.backends import namespace_of, open_device, to_torch
from tttdebug.modules import FeedForward, HardwareConfig, MultiHeadAttention
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.placement import WeightFormat
from tttdebug.modules.plain_feed_forward import feed_forward_class
from tttdebug.modules.weight_shapes import weight_shapes
from tttdebug.specs import AttentionSpec, FeedForwardSpec, MixtureOfExpertsSpec, NormSpec
from tttdebug.tracking.record import Key

KINDS = {AttentionSpec: "attention", FeedForwardSpec: "feed_forward", NormSpec: "norm", MixtureOfExpertsSpec: "mixture"}
EXACTLY = {"formats": {}}


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
    """Hidden states in bfloat16, some channels larger than others."""
    generator = torch.Generator().manual_seed(seed)
    x_TD = torch.randn(tokens, spec.hidden_dim, generator=generator)
    return (x_TD * (0.5 + torch.rand(spec.hidden_dim, generator=generator))).bfloat16().float()


def port_class(spec):
    if isinstance(spec, NormSpec):
        return norm_class(spec)
    return MultiHeadAttention if isinstance(spec, AttentionSpec) else feed_forward_class(spec)


def built(spec, weights, hw_config, engine="fast"):
    return port_class(spec)(spec, weights, open_device("emulated", engine=engine), hw_config)


def run(port, x_TD):
    """What the port's module gives for a prompt."""
    ttnn = namespace_of(port.device)
    dtype = ttnn.float32 if port.device.engine == "ideal" else ttnn.bfloat16
    x_11TD = ttnn.from_torch(x_TD[None, None], dtype, layout=ttnn.TILE_LAYOUT, device=port.device)
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


def with_spec(**changes):
    """The port is built from another spec."""
    return lambda spec, weights, hw, x: run(built(replace(spec, **changes), weights, hw), x)


def with_weights(change):
    """The port is given other weights."""
    return lambda spec, weights, hw, x: run(built(spec, change(dict(weights)), hw), x)


def with_config(**changes):
    """The port is built with another hardware config than declared."""
    return lambda spec, weights, hw, x: run(built(spec, weights, hw.replace(**changes)), x)
