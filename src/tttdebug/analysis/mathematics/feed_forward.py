# SPDX-License-Identifier: Apache-2.0
"""The feed-forward network, with a gate or without, and its activation functions.

T tokens, D hidden, F inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import FeedForwardSpec


@dataclass(frozen=True)
class FeedForwardSteps:
    """What the network does where the spec leaves no choice: `function` replaces its nonlinearity.

    `function_of_product` applies it to the product of gate and up instead of the gate; `multiplies` says whether there
    is that product.
    """

    function: str | None = None
    function_of_product: bool = False
    multiplies: bool = True


def feed_forward(
    spec: FeedForwardSpec, arithmetic: Arithmetic, x_TD: torch.Tensor, steps: FeedForwardSteps = FeedForwardSteps()
) -> torch.Tensor:
    """Hidden states [T, D] to hidden states [T, D]. Raises WeightsError for a missing weight."""
    inner_TF = inner(spec, arithmetic, x_TD, steps)
    return arithmetic.linear(inner_TF, "w2", "b2" if spec.bias else None)


def inner(
    spec: FeedForwardSpec, arithmetic: Arithmetic, x_TD: torch.Tensor, steps: FeedForwardSteps = FeedForwardSteps()
) -> torch.Tensor:
    """What the last projection reads, [T, F]."""
    function = activation(steps.function or spec.nonlinearity)
    gate_TF = arithmetic.linear(x_TD, "w1", "b1" if spec.bias else None)
    if not spec.is_gated or not steps.multiplies:
        return arithmetic.rounded(function(gate_TF))
    up_TF = arithmetic.linear(x_TD, "w3", "b3" if spec.bias else None)
    if steps.function_of_product:
        return arithmetic.rounded(function(gate_TF * up_TF))
    return arithmetic.rounded(function(gate_TF) * up_TF)


def activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of that name. Raises KeyError for one that is neither in `ACTIVATIONS` nor a value of `FAST`."""
    from torch.nn import functional

    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "silu": functional.silu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),
        "relu": functional.relu,
        "relu2": lambda x: functional.relu(x).square(),
        "sigmoid": lambda x: x.sigmoid(),
        "tanh": lambda x: x.tanh(),
        "none": lambda x: x,
        **_FAST,
    }
    return functions[name]


def _fast_gelu(x: torch.Tensor) -> torch.Tensor:
    from tttdebug.emulator.engines.activations import gelu_approx

    return gelu_approx(x)


def _fast_silu(x: torch.Tensor) -> torch.Tensor:
    from tttdebug.emulator.engines.activations import sigmoid_approx

    return x * sigmoid_approx(x)


def _fast_tanh(x: torch.Tensor) -> torch.Tensor:
    from tttdebug.emulator.engines.activations import tanh_approx

    return tanh_approx(x)


_FAST: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "fast gelu": _fast_gelu,
    "fast silu": _fast_silu,
    "fast tanh": _fast_tanh,
}
FAST = {"gelu": "fast gelu", "gelu_tanh": "fast gelu", "silu": "fast silu", "tanh": "fast tanh"}
"""The approximation by a table of straight lines that the chip has of a function."""
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "sigmoid", "tanh", "none")
"""Every function that the nonlinearity may be taken for."""
