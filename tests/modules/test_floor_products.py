# SPDX-License-Identifier: Apache-2.0
"""The floor adds up in bfloat16 where the port's settings do, and only there."""

import pytest
import torch
from torch import nn

from tttdebug.emulator import open_device, ttnn
from tttdebug.modules.floor_products import bfloat16_sums
from tttdebug.modules.hardware import HIFI2, HIFI2_FP16, HIFI4, LOFI, NORM
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.tracking.floor import DeclaredWeight, floor_model

GRID = (8, 8)


@pytest.mark.parametrize(
    "weight",
    [
        WeightFormat(Linear(), "bfloat16", HIFI4),
        WeightFormat(Linear(), "bfloat8_b", HIFI2),
        WeightFormat(Vector(), "bfloat16", NORM, register="SrcB"),
    ],
)
def test_fp32_sums_and_gains_are_left_to_plain_arithmetic(weight):
    assert bfloat16_sums(weight, "by_size", GRID) is None


@pytest.mark.parametrize("kernel", [LOFI, HIFI2_FP16])
def test_a_bfloat16_sum_is_the_ports_own(kernel):
    x, weight = torch.randn(40, 256).bfloat16(), torch.randn(256, 96).bfloat16()
    device = open_device("exact", grid=GRID)
    a, b = (ttnn.from_torch(t, layout=ttnn.TILE_LAYOUT, device=device) for t in (x, weight))
    multiply = bfloat16_sums(WeightFormat(Linear(), "bfloat16", kernel), "automatic", GRID)(weight)
    expected = ttnn.to_torch(ttnn.linear(a, b, compute_kernel_config=kernel.to_ttnn(ttnn)))
    assert torch.equal(multiply(x), expected)
    assert not torch.equal(multiply(x), x @ weight)


def test_a_layer_of_the_floor_multiplies_as_declared():
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32))

    def sevens(weight):
        return lambda x: torch.full((len(x), weight.shape[1]), 7.0, dtype=torch.bfloat16)

    weight = DeclaredWeight(model[0].weight.detach(), lambda x: x, sevens)
    floor, x = floor_model(model, {"0.weight": weight}), torch.randn(2, 3, 64).bfloat16()
    assert torch.equal(floor[0](x), (7 + model[0].bias.bfloat16()).expand(2, 3, 32))
    assert torch.equal(floor[1](floor[0](x)), floor(x))
    assert not torch.equal(model(x.float()).bfloat16(), floor(x))
