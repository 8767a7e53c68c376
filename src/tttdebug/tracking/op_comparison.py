# SPDX-License-Identifier: Apache-2.0
"""An op against its golden: the arguments read back, the golden computed in fp32, the outputs compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import device_tensors as tensors_of_devices
from tttdebug.backends import is_device_tensor, to_torch, unreadable
from tttdebug.tracking.op_golden_of import collective_golden_of, golden_of
from tttdebug.tracking.op_goldens import NoGoldenError
from tttdebug.tracking.op_goldens_attention import PADDED_ROWS
from tttdebug.tracking.op_record import (
    COMPARED,
    GOLDEN_FAILED,
    NO_GOLDEN,
    NONFINITE,
    SHAPE_MISMATCH,
    UNREADABLE,
    Judged,
)
from tttdebug.tracking.op_tap import is_torch_tensor

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.op_tap import HeardOp

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
_WRITES_FIRST_ARGUMENT = ("_cache", "_", "in_place")
_PREALLOCATED = ("output_tensor", "optional_output_tensor", "persistent_output_buffer", "persistent_output_tensor")


@dataclass(frozen=True)
class _OnDevices:
    """A tensor's values, one tensor a device of its mesh."""

    shards: tuple[torch.Tensor, ...]
    mesh_shape: tuple[int, ...] = (1,)


def read_arguments(op: HeardOp) -> Arguments | Judged:
    """The arguments with every tensor read back; or, where there is no golden to feed, that."""
    collective = collective_golden_of(op.name) is not None
    if op.golden is None and golden_of(op.name) is None and not collective:
        return Judged(NO_GOLDEN, note=f"neither ttnn nor tttdebug has a golden of {op.name}")
    copies = _writes_in_place(op)
    for value in _tensors((*op.args, *op.kwargs.values())):
        if (reason := unreadable(value)) is not None:
            return Judged(UNREADABLE, note=f"an input of shape {list(value.shape)}: {reason}")
    args = tuple(_read(value, copies) for value in op.args)
    return args, {name: _read(value, copies) for name, value in op.kwargs.items() if name not in _PREALLOCATED}


def judge_op(op: HeardOp, arguments: Arguments, output: Any) -> Judged:
    """How far the op's output is from its golden.

    A golden that does not know the call or raises is written down as such: it says nothing of the op.
    """
    ours, fallen_back = golden_of(op.name), ""
    by = "ttnn" if op.golden is not None and collective_golden_of(op.name) is None else "tttdebug"
    try:
        try:
            golden = _golden_outputs(op, arguments, theirs=by == "ttnn")
        except Exception as error:
            if by != "ttnn" or ours is None:
                raise
            by, fallen_back = "tttdebug", f"ttnn's golden raised {type(error).__name__}: {error}"
            golden = _golden_outputs(op, arguments, theirs=False)
    except NoGoldenError as error:
        return Judged(NO_GOLDEN, note=str(error))
    except Exception as error:  # noqa: BLE001 (a golden of ttnn's may raise anything; it is recorded, the run goes on)
        return Judged(GOLDEN_FAILED, golden=by, note=f"{type(error).__name__}: {error}")
    outputs = [output] if is_device_tensor(output) or is_torch_tensor(output) else list(_tensors([output]))
    if not outputs:  # an op that only writes in place
        outputs = list(_tensors((*op.args, *op.kwargs.values())))[:1]
    for value in outputs:
        if (reason := unreadable(value)) is not None:
            return Judged(UNREADABLE, golden=by, note=f"an output of shape {list(value.shape)}: {reason}")
    if len(golden) != len(outputs):
        return Judged(
            SHAPE_MISMATCH, golden=by, note=f"the op gave {len(outputs)} tensors, its golden has {len(golden)}"
        )
    compared = [
        _compare(op.name, expected, given, by, (fallen_back, f"of output {i}" if len(outputs) > 1 else ""))
        for i, (expected, given) in enumerate(zip(golden, outputs, strict=True))
    ]
    return max(compared, key=_badness)


def goldens_on_one_device(op: HeardOp, arguments: Arguments) -> list[torch.Tensor]:
    """What an op on one device should give for these arguments, fp32 or integers.

    It is our golden's where we have one, else ttnn's. Raises NoGoldenError where neither has one for this call, and
    whatever a golden of ttnn's raises.
    """
    if op.golden is None and golden_of(op.name) is None:
        raise NoGoldenError(f"neither ttnn nor tttdebug has a golden of {op.name}")
    outputs = _golden_outputs(op, arguments, theirs=golden_of(op.name) is None)
    return [output.shards[0] for output in outputs]


def _golden_outputs(op: HeardOp, arguments: Arguments, *, theirs: bool) -> list[_OnDevices]:
    """What the golden gives, ttnn's own or ours."""
    if (collective := collective_golden_of(op.name)) is not None:
        return _collective(collective, arguments)
    return _on_each_device(op.golden if theirs else golden_of(op.name), arguments)


def _badness(judged: Judged) -> tuple[bool, float]:
    return judged.status != COMPARED, 0.0 if math.isnan(judged.rel_l2) else judged.rel_l2


def _compare(name: str, expected: _OnDevices, given: Any, by: str, about: tuple[str, ...]) -> Judged:
    """One output: its shards beside those of the golden, as one tensor."""
    import torch

    actual = _shards(given, copies=False)
    notes = [note for note in about if note]
    golden_shards = list(expected.shards) * (len(actual) if len(expected.shards) == 1 else 1)
    pairs = []
    for golden, port in zip(golden_shards, actual, strict=True):
        if name in PADDED_ROWS and golden.ndim == port.ndim and golden.shape[-2] < port.shape[-2]:
            notes.append(f"rows beyond {golden.shape[-2]} are padding")
            port = port[..., : golden.shape[-2], :]
        if golden.shape != port.shape and golden.squeeze().shape != port.squeeze().shape:
            return Judged(
                SHAPE_MISMATCH,
                golden=by,
                note="; ".join((*notes, f"the op gave {list(port.shape)}, its golden is {list(golden.shape)}")),
            )
        pairs.append((golden.reshape(port.shape).float(), port.float()))
    golden_all, port_all = (torch.stack([pair[side] for pair in pairs]) for side in (0, 1))
    if golden_all.numel() == 0:
        return Judged(COMPARED, golden=by, note="; ".join((*notes, "empty")))
    return Judged(
        golden=by,
        note="; ".join(dict.fromkeys(notes)),
        format_rel_l2=_format_error(pairs[0][0], given),
        **_metrics(golden_all.double().flatten(), port_all.double().flatten()),
    )


def _metrics(golden: torch.Tensor, port: torch.Tensor) -> dict[str, Any]:
    """The few metrics that an op is judged by: those of a `Comparison`, at a tenth of its time."""
    import torch

    nonfinite = [int((~torch.isfinite(side)).sum()) for side in (golden, port)]
    difference = port - golden
    norm, error = float(golden.norm()), float(difference.norm())
    centred = [side - side.mean() for side in (golden, port)]
    spread = float(centred[0].norm()) * float(centred[1].norm())
    return {
        "status": NONFINITE if nonfinite[1] > nonfinite[0] else COMPARED,
        "rel_l2": error / norm if norm else (0.0 if error == 0 else math.inf),
        "pcc": float(centred[0] @ centred[1]) / spread if spread else math.nan,
        "max_abs_diff": float(difference.abs().max()),
        "slope": float(golden @ port) / norm**2 if norm else math.nan,
        "nonfinite_golden": nonfinite[0],
        "nonfinite_port": nonfinite[1],
    }


def _format_error(golden: torch.Tensor, given: Any) -> float:
    """rel_l2 of the golden packed in the output's number format."""
    from tttdebug.emulator.formats import FORMATS

    form = FORMATS.get(str(getattr(given.dtype, "name", given.dtype)).rpartition(".")[2].lower())
    norm = float(golden.norm())
    if form is None or not norm > 0 or not math.isfinite(norm):
        return math.nan
    return float((form.quantise(golden) - golden).norm()) / norm


def _on_each_device(golden: Any, arguments: Arguments) -> list[_OnDevices]:
    """The golden's outputs, computed on every device with that device's shards."""
    counts = {len(value.shards) for value in _read_tensors(arguments)}
    outputs = []
    for device in range(max(counts, default=1)):
        args, kwargs = (_of_device(part, device) for part in arguments)
        output = golden(*args, **kwargs)
        outputs.append(list(output) if isinstance(output, (list, tuple)) else [output])
    return [_OnDevices(tuple(shards)) for shards in zip(*outputs, strict=True)]


def _collective(golden: Any, arguments: Arguments) -> list[_OnDevices]:
    """The same for an op that sees all devices of a group at once: those that differ along `cluster_axis` only."""
    import torch

    tensors = _read_tensors(arguments)
    count, axis = len(tensors[0].shards), arguments[1].get("cluster_axis")
    groups = [list(range(count))]
    if axis is not None and count > 1:
        mesh = tensors[0].mesh_shape
        groups = torch.arange(count).reshape(mesh).movedim(axis, -1).reshape(-1, mesh[axis]).tolist()
    outputs: list[list[Any]] = []
    for group in groups:
        args, kwargs = (_of_group(part, group) for part in arguments)
        output = golden(*args, **kwargs)
        for i, shards in enumerate(output if isinstance(output, tuple) else (output,)):
            if len(outputs) <= i:
                outputs.append([None] * count)
            for device, shard in zip(group, shards, strict=True):
                outputs[i][device] = shard
    return [_OnDevices(tuple(shards)) for shards in outputs]


def _of_device(value: Any, device: int) -> Any:
    if isinstance(value, _OnDevices):
        return value.shards[device if len(value.shards) > 1 else 0]
    if isinstance(value, Mapping):
        return {name: _of_device(item, device) for name, item in value.items()}
    return type(value)(_of_device(item, device) for item in value) if type(value) in (list, tuple) else value


def _of_group(value: Any, group: list[int]) -> Any:
    if isinstance(value, _OnDevices):
        return [value.shards[device if len(value.shards) > 1 else 0] for device in group]
    if isinstance(value, Mapping):
        return {name: _of_group(item, group) for name, item in value.items()}
    return type(value)(_of_group(item, group) for item in value) if type(value) in (list, tuple) else value


def _read_tensors(value: Any) -> list[_OnDevices]:
    if isinstance(value, _OnDevices):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [found for part in parts for found in _read_tensors(part)]


def _read(value: Any, copies: bool) -> Any:
    if is_device_tensor(value):
        device = value.device()
        return _OnDevices(tuple(_shards(value, copies)), (1,) if device is None else tuple(device.shape))
    return type(value)(_read(item, copies) for item in value) if type(value) in (list, tuple) else value


def _shards(tensor: Any, copies: bool) -> Sequence[torch.Tensor]:
    """The values on each device, fp32 or int64. The emulator's own memory where nothing is going to write into it."""
    if is_torch_tensor(tensor):
        return [_plain(tensor)]
    if type(tensor).__module__.startswith("tttdebug.emulator"):
        from tttdebug.emulator.mesh_tensor import device_tensors

        read = [shard.values for shard in device_tensors(tensor)]
        return [_plain(values.clone() if copies else values) for values in read]
    return [_plain(to_torch(shard)) for shard in tensors_of_devices(tensor)]


def _plain(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.is_floating_point() else values.long()


def _tensors(values: Sequence[Any]) -> list[Any]:
    found = []
    for value in values:
        if is_device_tensor(value):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _writes_in_place(op: HeardOp) -> bool:
    given = any(op.kwargs.get(name) is not None for name in _PREALLOCATED)
    return given or op.name.endswith(_WRITES_FIRST_ARGUMENT) or "in_place" in op.name
