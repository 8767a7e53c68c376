# SPDX-License-Identifier: Apache-2.0
"""Products that add up in bfloat16, as the port's settings declare them, for the floor.

What such a sum loses depends on every one of its steps, so the emulator takes them, on whatever device the port runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tttdebug.modules.matmul_programs import Policy, Product, choose_matmul

if TYPE_CHECKING:
    import torch

    from tttdebug.modules.placement import WeightFormat


def bfloat16_sums(
    weight: WeightFormat, policy: Policy, grid: tuple[int, int]
) -> Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]] | None:
    """Of such a weight [K, N], given as the values that the device reads, the function that multiplies x [T, K] by it.

    None when the weight's kernel adds up in fp32, where plain arithmetic errs no less.
    """
    kernel = weight.kernel
    if kernel.fp32_dest_acc_en or weight.register != "SrcA":
        return None
    from tttdebug.emulator import open_device, ttnn

    device = open_device("fast", grid=grid)

    def placed(values: torch.Tensor) -> ttnn.Tensor:
        return ttnn.from_torch(values, ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)

    def multiplier(weight_KN: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        w, (inner, columns) = placed(weight_KN), weight_KN.shape

        def multiply(x_TK: torch.Tensor) -> torch.Tensor:
            product = Product(x_TK.shape[0], inner, columns, weight=weight.dtype)
            program = choose_matmul(product, kernel, grid, policy).program
            options = {} if program is None else {"program_config": program.to_ttnn(ttnn)}
            return ttnn.to_torch(ttnn.linear(placed(x_TK), w, compute_kernel_config=kernel.to_ttnn(ttnn), **options))

        return multiply

    return multiplier
