# SPDX-License-Identifier: Apache-2.0
"""Reading tensors back from an emulated device or mesh, and saying why one is not read."""

import numpy as np
import pytest
import torch

from tttdebug.backends import (
    describe_topology,
    device_tensors,
    is_device_tensor,
    opened_device,
    to_numpy,
    to_torch,
    unreadable,
)
from tttdebug.emulator import ttnn
from tttdebug.errors import DeviceError


def spread(x, mesh, *placements):
    mapper = ttnn.create_mesh_mapper(mesh, ttnn.MeshMapperConfig(list(placements)))
    return ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper)


SHARDED, WHOLE = ttnn.PlacementShard, ttnn.PlacementReplicate


@pytest.mark.parametrize(
    ("placements", "said"),
    [
        ((SHARDED(2), SHARDED(3)), "shard dim 2 over 2, shard dim 3 over 4"),
        ((WHOLE(), SHARDED(3)), "replicated over 2, shard dim 3 over 4"),
        ((SHARDED(3), WHOLE()), "shard dim 3 over 2, replicated over 4"),
        ((WHOLE(), WHOLE()), "replicated over 2, replicated over 4"),
    ],
)
def test_a_tensor_of_a_mesh_comes_back_whole(placements, said):
    x = torch.arange(64 * 128.0).reshape(1, 1, 64, 128).bfloat16()
    with opened_device("emulated:2x4") as mesh:
        tensor = spread(x, mesh, *placements)
        assert describe_topology(tensor) == said
        assert len(device_tensors(tensor)) == 8
        assert torch.equal(to_torch(tensor), x)
        assert np.array_equal(to_numpy(tensor), x.float().numpy())


def test_a_tensor_of_one_device_lies_there_alone():
    with opened_device() as device:
        tensor = ttnn.from_torch(torch.ones(32, 32), device=device)
        assert describe_topology(tensor) == ""
        assert len(device_tensors(tensor)) == 1
        assert unreadable(tensor) is None


def test_a_freed_tensor_is_told_from_one_that_can_be_read():
    with opened_device("emulated:1x2") as mesh:
        tensor = spread(torch.ones(32, 64), mesh, WHOLE(), SHARDED(1))
        assert is_device_tensor(tensor)
        ttnn.deallocate(tensor)
        assert unreadable(tensor) == "freed before it could be read"
        for read in (to_torch, to_numpy, device_tensors):
            with pytest.raises(DeviceError, match=r"shape \(32, 32\) was freed before it could be read; capture it"):
                read(tensor)


def test_what_is_no_tensor_is_refused():
    assert not is_device_tensor("tensor")
    with pytest.raises(DeviceError, match="cannot read a str"):
        to_torch("tensor")
