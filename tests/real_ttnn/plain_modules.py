# SPDX-License-Identifier: Apache-2.0
"""A small model as a user would write one for ttnn: plain objects that know nothing of tttdebug."""

from typing import Any

import numpy as np
import ttnn


def on_device(array: np.ndarray, device: Any, dtype: Any = ttnn.bfloat16, mapper: Any = None) -> Any:
    """An array in tiles on a device or, with a mapper, over a mesh."""
    host = ttnn.Tensor(np.ascontiguousarray(array, np.float32))
    if mapper is not None:
        host = ttnn.distribute_tensor(host, mapper)
    return ttnn.to_dtype(host.to(ttnn.TILE_LAYOUT), dtype=dtype).to(device)


class Projection:
    """Bound methods of its own on the instance, as norms in TTTv2 have them."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight
        self.prefill_forward = self._project

    def _project(self, x: Any) -> Any:
        return ttnn.linear(x, self.weight)


class Network:
    """Frees what comes in and what it made itself."""

    def __init__(self, device: Any, mapper: Any = None) -> None:
        self.device = device
        ones = np.ones((64, 64), np.float32)
        self.parts = [Projection(on_device(ones, device, ttnn.bfloat8_b, mapper)) for _ in range(2)]

    def __call__(self, x: Any) -> Any:
        return self.forward(x)

    def forward(self, x: Any) -> Any:
        gate, up = (part.prefill_forward(x) for part in self.parts)
        ttnn.deallocate(x)
        out = ttnn.multiply(gate, up)
        ttnn.deallocate(gate)
        ttnn.deallocate(up)
        return out
