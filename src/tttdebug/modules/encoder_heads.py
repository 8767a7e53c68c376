# SPDX-License-Identifier: Apache-2.0
"""What encoders end in: the pooler, one vector for the whole input, and the classifier, a score per class."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.specs import ClassifierSpec, PoolerSpec


class Pooler(TTModule[PoolerSpec]):
    """The first position of [1, 1, S, D] to [1, 1, 1, O]. Weights: `weight` [O, D], `bias` [O]."""

    SPEC = PoolerSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw = self.hw_config
        self.projection = self.place("weight", WeightFormat(Linear(), hw.wo, hw.li_o))
        self.bias = self.place("bias", WeightFormat(Vector(), hw.bias)) if self.spec.bias else None

    def forward(self, x_11SD: Any) -> Any:
        projected_111O = self.linear(first_position(self.ttnn, x_11SD), self.projection, "li_o", self.bias)
        return getattr(self.ttnn, self.spec.activation)(projected_111O)


class Classifier(TTModule[ClassifierSpec]):
    """[1, 1, 1, D] to scores [1, 1, 1, classes]. Weights: `weight` [classes, D], `bias` [classes]."""

    SPEC = ClassifierSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw = self.hw_config
        self.projection = self.place("weight", WeightFormat(Linear(), hw.lm_head, hw.li_lm_head))
        self.bias = self.place("bias", WeightFormat(Vector(), hw.bias)) if self.spec.bias else None

    def forward(self, x_111D: Any) -> Any:
        return self.linear(x_111D, self.projection, "li_lm_head", self.bias)


def first_position(ttnn: Any, x_11SD: Any) -> Any:
    """The first position alone, [1, 1, 1, D]."""
    return ttnn.slice(x_11SD, [0, 0, 0, 0], [1, 1, 1, x_11SD.shape[-1]])
