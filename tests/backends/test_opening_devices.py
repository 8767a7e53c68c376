# SPDX-License-Identifier: Apache-2.0
"""Devices by name and meshes by shape: what is opened, what is refused, and what a run says of it."""

import pytest

import tttdebug as td
from tttdebug.backends import describe_device, opened_device
from tttdebug.backends.meshes import MESHES, DeviceName, mesh_shape, read_device_name
from tttdebug.emulator import install, ttnn
from tttdebug.errors import DeviceError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("emulated", DeviceName("emulated")),
        ("emulated:2x4", DeviceName("emulated", mesh=(2, 4))),
        ("ttnn", DeviceName("ttnn")),
        ("ttnn:3", DeviceName("ttnn", device_id=3)),
        ("ttnn:TG", DeviceName("ttnn", mesh=(8, 4))),
        ("ttnn:1x2", DeviceName("ttnn", mesh=(1, 2))),
    ],
)
def test_a_name_says_which_device(name, meant):
    assert read_device_name(name) == meant


def test_mesh_device_is_read_where_mesh_is_asked_for(monkeypatch):
    for name, shape in MESHES.items():
        monkeypatch.setenv("MESH_DEVICE", name)
        assert mesh_shape("mesh") == shape


@pytest.mark.parametrize("name", ["card", "ttnn:N151", "ttnn:0x2", "emulated:0", "ttnn:1x2x3"])
def test_another_name_is_refused_and_says_what_is_known(name):
    with pytest.raises(DeviceError, match=r"N300|use 'emulated'"):
        td.open_device(name)


def test_mesh_without_mesh_device_says_what_to_set(monkeypatch):
    monkeypatch.delenv("MESH_DEVICE", raising=False)
    with pytest.raises(DeviceError, match="MESH_DEVICE is not set"):
        td.open_device("emulated:mesh")
    monkeypatch.setenv("MESH_DEVICE", "N151")
    with pytest.raises(DeviceError, match="MESH_DEVICE=N151 is no mesh; known are N150"):
        td.open_device("emulated:mesh")


def test_two_different_meshes_are_refused():
    with pytest.raises(DeviceError, match="two different meshes"):
        td.open_device("emulated:1x2", mesh=(1, 4))


def test_an_emulated_mesh_has_its_shape_engine_and_grid():
    with opened_device("emulated", mesh="N300", engine="exact", grid=(4, 4)) as device:
        said = describe_device(device)
    assert (said.mesh, said.engine, said.grid, said.runs_on) == ((1, 2), "exact", (4, 4), "emulator")
    assert not device.is_open


def test_the_fabric_is_on_while_the_device_is_open():
    with opened_device("emulated:1x2", fabric_config="FABRIC_1D", trace_region_size=1 << 20, num_command_queues=2):
        assert ttnn.get_fabric_config() is ttnn.FabricConfig.FABRIC_1D
    assert ttnn.get_fabric_config() is ttnn.FabricConfig.DISABLED
    with pytest.raises(DeviceError, match=r"none of ttnn\.FabricConfig: DISABLED"):
        td.open_device("emulated", fabric_config="FABRIC_3D")


def test_a_card_is_not_mistaken_for_the_emulator_in_its_place():
    with install(), pytest.raises(DeviceError, match="stands in the place of ttnn"):
        td.open_device("ttnn")


def test_the_command_says_which_fabric_there_is(monkeypatch, tmp_path, capsys):
    import sys

    from tttdebug import cli

    command = ["tttdebug", "run", "--device", "emulated:1x2", "--fabric", "FABRIC_3D", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "fabric_config='FABRIC_3D' is none of ttnn.FabricConfig" in capsys.readouterr().err
