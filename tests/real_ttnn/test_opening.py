# SPDX-License-Identifier: Apache-2.0
"""Opening and closing devices and meshes of the real ttnn, with its options. Each test has the cluster to itself."""

import numpy as np
import pytest

from tttdebug.backends import describe_device, open_device, opened_device, unreadable
from tttdebug.errors import DeviceError


def test_a_mesh_that_is_not_there_is_an_error_that_says_so():
    with pytest.raises(DeviceError, match="a mesh of 1x8 devices does not answer"):
        open_device("ttnn:T3K")


def test_a_device_opens_again_after_it_was_closed():
    for _ in range(2):
        with opened_device("ttnn:0", trace_region_size=1 << 20, num_command_queues=2, l1_small_size=32768) as device:
            assert describe_device(device).mesh == (1, 1)


@pytest.mark.parametrize("program_cache", [True, False])
def test_the_program_cache_is_on_or_off(ttnn, program_cache):
    with opened_device("ttnn", program_cache=program_cache) as device:
        x = ttnn.Tensor(np.zeros((32, 32), np.float32)).to(ttnn.TILE_LAYOUT).to(device)
        before = device.num_program_cache_entries()
        ttnn.add(x, x)
        assert (device.num_program_cache_entries() > before) is program_cache


@pytest.mark.two_devices
def test_mesh_device_opens_and_closes_the_mesh_with_its_fabric(ttnn, monkeypatch):
    monkeypatch.setenv("MESH_DEVICE", "N300")
    with opened_device("ttnn:mesh", fabric_config="FABRIC_1D", trace_region_size=1 << 20) as mesh:
        assert describe_device(mesh).mesh == (1, 2)
        assert mesh.get_num_devices() == 2
        assert ttnn.get_fabric_config() == ttnn.FabricConfig.FABRIC_1D
    assert ttnn.get_fabric_config() == ttnn.FabricConfig.DISABLED


@pytest.mark.two_devices
def test_one_of_the_two_devices_opens_alone():
    with opened_device("ttnn", mesh=(1, 1)) as device:
        assert describe_device(device).mesh == (1, 1)
        assert device.get_num_devices() == 1


@pytest.mark.two_devices
def test_nothing_is_read_while_a_trace_is_captured_on_the_mesh(ttnn):
    with opened_device("ttnn", mesh="N300", trace_region_size=1 << 20) as mesh:
        mapper = ttnn.ShardTensorToMesh(mesh, 1)
        placed = ttnn.distribute_tensor(ttnn.Tensor(np.ones((32, 64), np.float32)), mapper).to(mesh)
        trace = ttnn.begin_trace_capture(mesh, cq_id=0)
        held = unreadable(placed)
        ttnn.end_trace_capture(mesh, trace, cq_id=0)
        ttnn.release_trace(mesh, trace)
    assert held == "a metal trace was being captured"
