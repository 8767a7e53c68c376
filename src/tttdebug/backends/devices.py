# SPDX-License-Identifier: Apache-2.0
"""Devices: opened by name, closed in the end, each with the ttnn namespace its tensors belong to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tttdebug.backends.firmware import firmware, kernel_driver
from tttdebug.backends.meshes import mesh_shape, read_device_name
from tttdebug.errors import DeviceError

Engine = Literal["ideal", "fast", "exact"]
Architecture = Literal["wormhole_b0", "blackhole"]
RunsOn = Literal["emulator", "card", "simulator", "mock cluster"]

MOCK_CLUSTER = "TT_METAL_MOCK_CLUSTER_DESC_PATH"
SIMULATOR = "TT_METAL_SIMULATOR"


@dataclass(frozen=True)
class DeviceDescription:
    """What a run says of the device it used. `engine` is the emulator's engine, or "ttnn" for the real package.

    `runs_on` says what computes. A mock cluster computes nothing: what is read from it is zeros and is never judged.
    `firmware` and `driver` are those of a card, as far as they are known.
    """

    kind: str
    engine: str
    architecture: str
    grid: tuple[int, int]
    mesh: tuple[int, ...] = (1, 1)
    runs_on: RunsOn = "emulator"
    firmware: str = ""
    driver: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value != ""}


@dataclass(frozen=True)
class OpenOptions:
    """What ttnn is told when a device is opened. `fabric_config` is the name of a ttnn.FabricConfig; None leaves it."""

    fabric_config: str | None = None
    trace_region_size: int = 0
    num_command_queues: int = 1
    l1_small_size: int = 0
    program_cache: bool = True


UNKNOWN = DeviceDescription("unknown", "unknown", "unknown", (0, 0))
"""What a run says of a device that it has not seen yet."""


def open_device(
    name: str = "emulated",
    *,
    mesh: tuple[int, int] | str | None = None,
    engine: Engine = "fast",
    architecture: Architecture = "wormhole_b0",
    grid: tuple[int, int] = (8, 8),
    torch_device: str = "cpu",
    fabric_config: str | None = None,
    trace_region_size: int = 0,
    num_command_queues: int = 1,
    l1_small_size: int = 0,
    program_cache: bool = True,
) -> Any:
    """The device `name`: "emulated", or "ttnn" or "ttnn:ID" for a card, the vendor's simulator or a mock cluster.

    What comes back is that package's own device object, so that code written for ttnn takes it. `mesh` asks for
    several devices: (1, 2), "1x2", a name that MESH_DEVICE takes ("N300", "T3K", …), or "mesh" for what MESH_DEVICE
    says; the device's name may say it too, as in "ttnn:T3K" and "ttnn:mesh".

    `engine` ("fast": the chip's formats and roundings at torch speed; "exact": the chip bit by bit, on the CPU;
    "ideal": plain fp32, which tells a wrong algorithm from coarse numbers), `architecture`, `grid` (compute cores, x by
    y) and `torch_device` shape emulated devices only. `fabric_config` ("FABRIC_1D"; on until the device is closed),
    `trace_region_size`, `num_command_queues`, `l1_small_size` and `program_cache` are ttnn's own; the emulator takes
    them and its numbers do not depend on them.

    Raises DeviceError when the name is unknown, ttnn is not installed, or no device answers.
    """
    asked = read_device_name(name)
    shape = asked.mesh if mesh is None else mesh_shape(mesh)
    if mesh is not None and asked.mesh not in (None, shape):
        raise DeviceError(f"device {name!r} and mesh={mesh!r} ask for two different meshes; give one of them")
    options = OpenOptions(fabric_config, trace_region_size, num_command_queues, l1_small_size, program_cache)
    if asked.kind == "ttnn":
        return _open_real(asked.device_id, shape, options)
    from tttdebug.emulator.opening import DeviceOptions, open_mesh

    device = open_mesh(shape or (1, 1), DeviceOptions(engine, architecture, grid, torch_device))
    _set_fabric(namespace_of(device), device, options)
    return device


def close_device(device: Any) -> None:
    """Release a device or mesh that `open_device` gave, and switch off the fabric that was switched on for it."""
    ttnn = namespace_of(device)
    if device.get_num_devices() > 1:
        ttnn.close_mesh_device(device)
    else:
        ttnn.close_device(device)
    if _with_fabric.pop(id(device), None) is not None:
        ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


@contextmanager
def opened_device(name: str = "emulated", **options: Any) -> Iterator[Any]:
    """`open_device` for the length of a `with` block."""
    device = open_device(name, **options)
    try:
        yield device
    finally:
        close_device(device)


def is_emulated(value: Any) -> bool:
    """Whether a device or tensor is the emulator's. Imports nothing: torch need not be there to ask."""
    return any(base.__module__.startswith("tttdebug.emulator") for base in type(value).__mro__)


def namespace_of(device: Any) -> Any:
    """The `ttnn` that drives `device`: the emulator's namespace for an emulated device, else the real package."""
    if not is_emulated(device):
        return _import_real()
    from tttdebug.emulator import ttnn

    return ttnn


def describe_device(device: Any) -> DeviceDescription:
    """Kind, engine, architecture, compute grid and mesh of an open device, and what it runs on."""
    mesh = tuple(int(size) for size in device.shape)
    if is_emulated(device):
        return DeviceDescription("emulated", device.engine.name, device.architecture, device.grid, mesh)
    grid = device.compute_with_storage_grid_size()
    architecture = str(device.arch()).rpartition(".")[2].lower()
    description = DeviceDescription("ttnn", "ttnn", architecture, (grid.x, grid.y), mesh, real_ttnn_runs_on())
    if description.runs_on != "card":
        return description
    return replace(description, firmware=firmware(), driver=kernel_driver())


def is_device(value: Any) -> bool:
    """Whether `value` is a device or a mesh of the emulator or of the real ttnn."""
    return any(
        base.__name__ in ("Device", "MeshDevice") and base.__module__.startswith(("tttdebug.emulator", "ttnn"))
        for base in type(value).__mro__
    )


def real_ttnn_runs_on() -> RunsOn:
    """What the real ttnn of this process drives, as its own environment variables say."""
    if os.environ.get(MOCK_CLUSTER):
        return "mock cluster"
    return "simulator" if os.environ.get(SIMULATOR) else "card"


_with_fabric: dict[int, Any] = {}  # devices that switched the fabric on, by id, kept alive so that the id stays theirs


def _open_real(device_id: int, shape: tuple[int, int] | None, options: OpenOptions) -> Any:
    ttnn = _import_real()
    sizes = {
        "l1_small_size": options.l1_small_size,
        "trace_region_size": options.trace_region_size,
        "num_command_queues": options.num_command_queues,
    }
    try:
        fabric = _fabric_named(ttnn, options.fabric_config)
        if fabric is not None:
            ttnn.set_fabric_config(fabric)
        try:
            if shape is None:
                device = ttnn.open_device(device_id=device_id, **sizes)
            else:
                device = ttnn.open_mesh_device(ttnn.MeshShape(*shape), **sizes)
        except RuntimeError:
            if fabric is not None:
                ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)
            raise
    except RuntimeError as error:  # what ttnn's own fatal checks raise
        what = f"device {device_id}" if shape is None else f"a mesh of {shape[0]}x{shape[1]} devices"
        raise DeviceError(
            f"ttnn is installed but {what} does not answer ({_reason(error)}); "
            f"check the {real_ttnn_runs_on()} with tttdebug doctor and tt-smi, or use --device emulated"
        ) from error
    if fabric is not None:
        _with_fabric[id(device)] = device
    if options.program_cache:
        device.enable_program_cache()
    else:
        device.disable_and_clear_program_cache()
    return device


def _set_fabric(ttnn: Any, device: Any, options: OpenOptions) -> None:
    fabric = _fabric_named(ttnn, options.fabric_config)
    if fabric is not None:
        ttnn.set_fabric_config(fabric)
        _with_fabric[id(device)] = device


def _fabric_named(ttnn: Any, name: str | None) -> Any:
    if name is None:
        return None
    known = list(ttnn.FabricConfig.__members__)
    if name not in known:
        raise DeviceError(f"fabric_config={name!r} is none of ttnn.FabricConfig: {', '.join(known)}")
    return getattr(ttnn.FabricConfig, name)


def _reason(error: RuntimeError) -> str:
    """What ttnn says went wrong: the line behind its `info:`, for the first one only names a source file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "info:" in lines[:-1]:
        return lines[lines.index("info:") + 1]
    return lines[0] if lines else "no reason given"


def _import_real() -> Any:
    try:
        import ttnn
    except ImportError as error:
        raise DeviceError(
            f"the ttnn package cannot be imported ({error}); install it with: pip install 'tttdebug[ttnn]' "
            "(CPython 3.10 or 3.12 on x86-64 Linux), or use --device emulated"
        ) from error
    if ttnn.__name__.startswith("tttdebug."):
        raise DeviceError(
            "the emulator stands in the place of ttnn in this process, so no card can be opened; "
            "use --device emulated, or leave the emulator uninstalled"
        )
    return ttnn
