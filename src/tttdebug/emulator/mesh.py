# SPDX-License-Identifier: Apache-2.0
"""Mappings between a host tensor and a mesh of devices. An emulated mesh has one device, so both keep tensors whole."""

from __future__ import annotations

from dataclasses import dataclass

from tttdebug.emulator.device import Device


@dataclass(frozen=True, eq=False)
class ReplicateTensorToMesh:
    """Every device gets the whole tensor."""

    mesh_device: Device


@dataclass(frozen=True, eq=False)
class ShardTensorToMesh:
    """Each device gets its part along `dim`; one device gets all of it."""

    mesh_device: Device
    dim: int


@dataclass(frozen=True, eq=False)
class ConcatMeshToTensor:
    """The devices' parts joined along `dim`; of one device, its tensor."""

    mesh_device: Device
    dim: int


MeshMapper = ReplicateTensorToMesh | ShardTensorToMesh
