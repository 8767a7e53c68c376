# SPDX-License-Identifier: Apache-2.0
"""Tensors on emulated devices, and how near a result is to plain torch."""

import torch

from tttdebug.emulator import ttnn

# How far the engines may be from fp32 arithmetic on the same inputs, relative to the largest value.
TOLERANCE = {"ideal": 1e-5, "fast": 0.04, "exact": 0.04}
FULL_FIDELITY = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True
)


def upload(device, x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, **options):
    return ttnn.from_torch(x, dtype=dtype, layout=layout, device=device, **options)


def near(device, computed, exact, tolerance=None):
    computed = ttnn.to_torch(computed).float()
    assert computed.shape == exact.shape
    off = (computed - exact).abs().max() / exact.abs().max()
    assert off <= (tolerance or TOLERANCE[device.engine.name]), off


def randn(*shape):
    return torch.randn(*shape).bfloat16().float()


def in_shards(device, x):
    """[1, B, rows, columns], a core per user."""
    users, rows, columns = x.shape[1], -(-x.shape[2] // 32) * 32, x.shape[3]
    cores = ttnn.num_cores_to_corerangeset(users, device.compute_with_storage_grid_size(), True)
    config = ttnn.create_sharded_memory_config(
        (rows, columns), cores, ttnn.ShardStrategy.HEIGHT, use_height_and_width_as_shard_shape=True
    )
    return upload(device, x, memory_config=config)
