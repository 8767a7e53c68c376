# SPDX-License-Identifier: Apache-2.0
"""Tensors to compare: pairs that hypothesis draws, and activations like a model's."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
everyday = st.floats(-1e3, 1e3, width=32).map(lambda value: value if abs(value) > 1e-3 else 0.0)
small_shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=7)


@st.composite
def pairs(draw, elements=finite | everyday, shapes=small_shapes) -> tuple[Tensor, Tensor]:
    shape = draw(shapes)
    sides = (draw(arrays.arrays(np.float32, shape, elements=elements)) for _ in range(2))
    reference, port = (torch.from_numpy(side) for side in sides)
    return reference, port


def activations(tokens: int = 128, features: int = 512, seed: int = 0) -> Tensor:
    return torch.randn(tokens, features, generator=torch.Generator().manual_seed(seed))
