# SPDX-License-Identifier: Apache-2.0
"""Other draws of a model's roundings: how far its error scatters, where one draw of it says too little."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.floor import Draws, FloorError

if TYPE_CHECKING:
    import torch
    from torch import nn

DRAWS = 4
_SELDOM = 6.0
"""Standard deviations of χ² of one degree that one in 300 exceeds, as 3 of the normal distribution are."""
_ROUNDING = 2**-7 * math.sqrt(3 / (8 * math.log(2)) / 12)
"""The rms relative error of rounding to bfloat16: a step of 2⁻⁷ over √12, mantissas spread as 1/m over 1 to 2."""


@contextmanager
def other_roundings(model: nn.Module, seed: int) -> Iterator[None]:
    """While it lasts, what every linear layer and embedding gives is disturbed by as much as rounding it to bfloat16
    does: drawn anew for each seed, the same again for the same one.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Embedding))]
    handles = [layer.register_forward_hook(_disturbing(generator)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _disturbing(generator: torch.Generator) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
    import torch

    def disturb(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(output.shape, generator=generator).to(output.device)
        return (output.float() * (1 + _ROUNDING * noise)).to(output.dtype)

    return disturb


def draws_of(model: nn.Module, floors: Callable[[], Mapping[str, FloorError]]) -> Draws:
    """`floors`, which runs `model` once, in `DRAWS` draws of its roundings."""

    @cache
    def draws() -> list[Mapping[str, FloorError]]:
        drawn = []
        for seed in range(DRAWS):
            with other_roundings(model, seed):
                drawn.append(floors())
        return drawn

    return draws


def with_scatter(rel_l2: float, drawn: Sequence[float]) -> float:
    """What an error seldom exceeds that was `rel_l2` once, and `drawn` in other draws: three standard deviations more.

    ‖e‖² of an error in many directions hardly scatters. That of a token with one massive activation is the square of
    one number, which may be near zero by luck.
    """
    if len(drawn) < 2:
        return rel_l2
    squares = [error**2 for error in drawn]
    mean = sum(squares) / len(squares)
    deviation = math.sqrt(sum((square - mean) ** 2 for square in squares) / (len(squares) - 1))
    widened = math.sqrt(rel_l2**2 + _SELDOM * deviation)
    return widened if math.isfinite(widened) else rel_l2
