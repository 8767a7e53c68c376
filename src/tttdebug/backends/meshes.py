# SPDX-License-Identifier: Apache-2.0
"""Which device a name means: the emulator or ttnn, one card by its number, or a mesh by its shape or MESH_DEVICE."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from tttdebug.errors import DeviceError

MESHES: dict[str, tuple[int, int]] = {
    "N150": (1, 1),
    "N300": (1, 2),
    "N150x4": (1, 4),
    "T3K": (1, 8),
    "TG": (8, 4),
}
"""The names that TT-Transformers' MESH_DEVICE takes, with the devices along each axis of the mesh."""

VARIABLE = "MESH_DEVICE"


@dataclass(frozen=True)
class DeviceName:
    """What a device's name says; `mesh` is None where it is one device, that of number `device_id`."""

    kind: Literal["emulated", "ttnn"]
    device_id: int = 0
    mesh: tuple[int, int] | None = None


def read_device_name(name: str) -> DeviceName:
    """`emulated` or `ttnn`, alone or with `:ID` (a card), `:1x2` or `:N300` (a mesh), or `:mesh` (MESH_DEVICE's).

    Raises DeviceError for any other name, and for `:mesh` where MESH_DEVICE is not set.
    """
    kind, _, which = name.partition(":")
    if kind == "ttnn" and (not which or which.isdigit()):
        return DeviceName("ttnn", int(which or 0))
    if kind == "emulated" and not which:
        return DeviceName("emulated")
    if kind not in ("emulated", "ttnn"):
        raise DeviceError(
            f"unknown device {name!r}: use 'emulated', 'ttnn', 'ttnn:ID' with the number of a card, or a mesh as in "
            "'ttnn:1x2', 'ttnn:T3K' or 'ttnn:mesh'"
        )
    return DeviceName("ttnn" if kind == "ttnn" else "emulated", mesh=mesh_shape(which))


def mesh_shape(mesh: str | tuple[int, int]) -> tuple[int, int]:
    """The shape of a mesh given as (rows, columns), "1x2", a name of MESHES, or "mesh" for what MESH_DEVICE names.

    Raises DeviceError for anything else.
    """
    if not isinstance(mesh, str):
        if len(mesh) != 2 or min(mesh) < 1:
            raise DeviceError(f"mesh {mesh!r}: give (rows, columns), each 1 or more")
        return (mesh[0], mesh[1])
    if mesh == "mesh":
        named = os.environ.get(VARIABLE)
        if not named:
            raise DeviceError(f"a mesh was asked for but {VARIABLE} is not set; {_KNOWN}")
        return _named(named, f"{VARIABLE}={named}")
    return _named(mesh, f"mesh {mesh!r}")


def _named(mesh: str, where: str) -> tuple[int, int]:
    if mesh in MESHES:
        return MESHES[mesh]
    if shape := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", mesh):
        return (int(shape[1]), int(shape[2]))
    raise DeviceError(f"{where} is no mesh; {_KNOWN}")


_KNOWN = f"known are {', '.join(MESHES)}, and shapes as 1x2"
