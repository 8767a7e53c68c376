# SPDX-License-Identifier: Apache-2.0
"""What ttnn's collectives should compute, in plain torch.

As in `op_goldens`, but their tensors come as lists: one tensor a device, in the order of the devices of one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tttdebug.tracking.op_goldens import Golden, NoGoldenError, matmul


def all_gather(input_tensor: Sequence[Tensor], dim: int, **_: Any) -> list[Tensor]:
    together = torch.cat(list(input_tensor), dim)
    return [together] * len(input_tensor)


def all_reduce(input_tensor: Sequence[Tensor], **_: Any) -> list[Tensor]:
    total = torch.stack(list(input_tensor)).sum(0)
    return [total] * len(input_tensor)


def reduce_scatter(input_tensor: Sequence[Tensor], dim: int, **_: Any) -> list[Tensor]:
    total = torch.stack(list(input_tensor)).sum(0)
    if total.shape[dim] % len(input_tensor):
        raise NoGoldenError(f"reduce_scatter of {list(total.shape)} along {dim} over {len(input_tensor)} devices")
    return list(total.chunk(len(input_tensor), dim))


def all_gather_matmul(
    input_tensor: Sequence[Tensor], weight_tensor: Sequence[Tensor], *args: Any, dim: int, **kwargs: Any
) -> tuple[list[Tensor], list[Tensor]]:
    gathered = all_gather(input_tensor, dim)
    bias = kwargs.get("bias")
    wanted = {name: kwargs[name] for name in ("transpose_a", "transpose_b", "activation") if name in kwargs}
    products = [
        matmul(x, weight, bias=None if bias is None else bias[i], **wanted)
        for i, (x, weight) in enumerate(zip(gathered, weight_tensor, strict=True))
    ]
    return gathered, products


COLLECTIVES: dict[str, Golden] = {
    "ttnn.all_gather": all_gather,
    "ttnn.experimental.all_gather_async": all_gather,
    "ttnn.all_reduce": all_reduce,
    "ttnn.experimental.all_reduce_async": all_reduce,
    "ttnn.reduce_scatter": reduce_scatter,
    "ttnn.experimental.reduce_scatter_minimal_async": reduce_scatter,
    "ttnn.experimental.all_gather_matmul_async": all_gather_matmul,
}
