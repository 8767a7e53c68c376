# SPDX-License-Identifier: Apache-2.0
"""Meshes of the real ttnn: both devices of an n300, with what is spread over them read through its topology."""

import json

import numpy as np
import pytest
from replay import Replay

from tttdebug.backends import (
    describe_topology,
    device_tensors,
    to_numpy,
    unreadable,
)
from tttdebug.errors import DeviceError
from tttdebug.tracking.discovery import discover
from tttdebug.tracking.hooks import PortTap

pytestmark = pytest.mark.two_devices


VALUES = np.arange(64 * 128, dtype=np.float32).reshape(1, 1, 64, 128) % 251  # each exact in bfloat16


def spread(ttnn, mesh, *placements):
    config = ttnn.MeshMapperConfig(list(placements), ttnn.MeshShape(1, 2))
    return ttnn.distribute_tensor(ttnn.Tensor(VALUES), ttnn.create_mesh_mapper(mesh, config))


@pytest.mark.parametrize(
    ("dim", "said", "shard"),
    [
        (3, "shard dim 3 over 2", (1, 1, 64, 64)),
        (2, "shard dim 2 over 2", (1, 1, 32, 128)),
        (None, "replicated over 2", (1, 1, 64, 128)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tensor_of_a_mesh_comes_back_whole(ttnn, mesh, dim, said, shard, dtype):
    along = ttnn.PlacementReplicate() if dim is None else ttnn.PlacementShard(dim)
    host = ttnn.to_dtype(spread(ttnn, mesh, ttnn.PlacementReplicate(), along), dtype=getattr(ttnn, dtype))
    assert describe_topology(host) == said
    assert np.array_equal(to_numpy(host), VALUES)  # on the host, where a mock cluster keeps the values
    placed = host.to(ttnn.TILE_LAYOUT).to(mesh)
    assert describe_topology(placed) == said
    parts = device_tensors(placed)
    assert [tuple(part.shape) for part in parts] == [shard, shard]
    assert to_numpy(placed).shape == VALUES.shape
    assert unreadable(placed) == "mock cluster"


def test_a_freed_tensor_of_a_mesh_is_never_read(ttnn, mesh):
    placed = spread(ttnn, mesh, ttnn.PlacementReplicate(), ttnn.PlacementShard(3)).to(mesh)
    ttnn.deallocate(placed)
    assert unreadable(placed) == "freed before it could be read"
    with pytest.raises(DeviceError, match="was freed"):
        to_numpy(placed)


def test_hooks_and_discovery_on_tensors_of_a_mesh(ttnn, mesh):
    from plain_modules import Network, on_device

    mapper = ttnn.replicate_tensor_to_mesh_mapper(mesh)
    network = Network(mesh, mapper)
    heard = []

    def listen(boundary, output, seconds):
        heard.append((boundary, len(device_tensors(output)), tuple(output.shape), unreadable(output)))

    with PortTap({"mlp": network, "gate": network.parts[0]}, listen):
        out = network(on_device(np.ones((1, 1, 32, 64)), mesh, mapper=mapper))
    assert heard == [(name, 2, (1, 1, 32, 64), "mock cluster") for name in ("gate", "mlp")]
    assert len(device_tensors(out)) == 2
    assert {"parts.0", "parts.1"} <= {module.path for module in discover(network).modules}


def test_every_call_of_a_program_on_two_devices_is_taken(ttnn, mesh, cases):
    calls = json.loads((cases / "mesh.json").read_text())
    assert {"all_gather", "reduce_scatter", "all_reduce"} <= {call["function"] for call in calls}
    replay = Replay(ttnn, mesh)
    for number, call in enumerate(calls):
        replay.make(call, number)
