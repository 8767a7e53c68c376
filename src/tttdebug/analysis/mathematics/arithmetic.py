# SPDX-License-Identifier: Apache-2.0
"""Weights as the port reads them and products with them, each made once for all the variants of one call.

T tokens, K inner width, N output width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tttdebug.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.memory import Memory
    from tttdebug.analysis.module_call import ReadAs


@dataclass(frozen=True)
class Numbers:
    """The number formats of one variant: how each weight is kept, and whether activations are rounded to bfloat16.

    A weight without a format is in bfloat16. `multipliers` replaces the product with a weight, given as the port reads
    it, [K, N], where plain arithmetic is not how it is made.
    """

    formats: Mapping[str, ReadAs]
    rounds_activations: bool = False
    multipliers: Mapping[str, Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = field(
        default_factory=dict
    )


class Arithmetic:
    """The weights of one variant under the names of one module, and the steps that read them."""

    def __init__(self, weights: Mapping[str, torch.Tensor], numbers: Numbers, memory: Memory, prefix: str = "") -> None:
        self.numbers, self.memory = numbers, memory
        self._weights, self._prefix = weights, prefix

    def under(self, part: str) -> Arithmetic:
        """The same for the weights of one part."""
        return Arithmetic(self._weights, self.numbers, self.memory, f"{self._prefix}{part}.")

    def has(self, name: str) -> bool:
        """Whether there is such a weight."""
        return self._prefix + name in self._weights

    def raw(self, name: str) -> torch.Tensor:
        """The weight before its format is applied, fp32. Raises KeyError when it is missing."""
        return self._weights[self._prefix + name].float()

    def weight(self, name: str, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The weight, or those rows of it, as the port reads it, fp32. Raises WeightsError when it is missing."""
        full = self._prefix + name
        if full not in self._weights:
            raise WeightsError(
                f"the mathematics of this module needs the weight {full!r}, the call holds "
                f"{', '.join(sorted(self._weights)) or 'none'}: name it as the port's module documents"
            )
        weight, read_as = self._weights[full], self.numbers.formats.get(full)
        if rows is not None:
            return _read(weight[rows], read_as)
        if self.memory.keeps(weight, read_as):
            return self.memory.weights.once(full, (weight, read_as), lambda: _read(weight, read_as))
        is_changed = not self.memory.is_of_call(weight)
        return weight if is_changed and self.memory.changed_as_they_are else _read(weight, read_as)

    def linear(self, x_TK: torch.Tensor, name: str, bias: str | None = None) -> torch.Tensor:
        """x times the transposed weight [N, K], read as the port reads both, plus the bias where one is named."""
        full = self._prefix + name
        memory, weight_NK = self.memory, self.weight(name)
        read_as, multiplier = self.numbers.formats.get(full), self.numbers.multipliers.get(full)
        is_input = x_TK is memory.input_TD or x_TK is memory.asked_TD
        if is_input and memory.keeps(self._weights[full], read_as):
            sources = (x_TK, weight_NK, read_as, multiplier)
            out_TN = memory.products.once(full, sources, lambda: self._multiply(x_TK, full, weight_NK))
        else:
            out_TN = self._multiply(x_TK, full, weight_NK)
        return self.rounded(out_TN if bias is None else out_TN + self.weight(bias))

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """x, rounded to bfloat16 where this variant rounds its activations."""
        import torch

        return x.to(torch.bfloat16).float() if self.numbers.rounds_activations else x

    def _multiply(self, x_TK: torch.Tensor, full: str, weight_NK: torch.Tensor) -> torch.Tensor:
        import torch

        read_as = self.numbers.formats.get(full)
        if read_as is not None and _cuts_its_input(read_as):
            x_TK = read_as.read_input(x_TK.to(torch.bfloat16)).float()
        multiplier = self.numbers.multipliers.get(full)
        if multiplier is None:
            return x_TK @ weight_NK.T
        if self.memory.keeps(self._weights[full], read_as):
            placed = self.memory.weights.once(
                f"{full} placed", (weight_NK, multiplier), lambda: multiplier(weight_NK.T)
            )
        else:
            placed = multiplier(weight_NK.T)
        return placed(x_TK).float()


def _read(weight: torch.Tensor, read_as: ReadAs | None) -> torch.Tensor:
    import torch

    return weight.to(torch.bfloat16).float() if read_as is None else read_as.quantise(weight).float()


def _cuts_its_input(read_as: ReadAs) -> bool:
    """Whether the fidelity reads less than a bfloat16 of what comes in."""
    import torch

    all_bits_set = torch.tensor([2 - 2.0**-7], dtype=torch.bfloat16)
    return not torch.equal(read_as.read_input(all_bits_set), all_bits_set)
