# SPDX-License-Identifier: Apache-2.0
"""Recording a call of a module as a program: every ttnn op with its arguments, tensors told apart by identity."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, to_torch, unreadable
from tttdebug.bundles.program import DEVICE, Leaf, Op, Program, Role, Value, mapped
from tttdebug.errors import BundleError
from tttdebug.tracking.device_tensors import tensors_held_by
from tttdebug.tracking.op_tap import HeardOp, is_torch_tensor, listening
from tttdebug.tracking.op_tracking import argument_names

if TYPE_CHECKING:
    import torch

_FROM_HOST = ("ttnn.from_torch", "ttnn.as_tensor")
"""Ops whose outputs begin the program: what they are made of is no tensor of ttnn."""
_TO_HOST = ("ttnn.to_torch", "ttnn.from_device")
_INPUT, _UNNAMED = "x", "tensor"


@dataclass(frozen=True)
class Recorded:
    """A program with what is to be said of how it was recorded, a sentence each."""

    program: Program
    notes: tuple[str, ...]


class ProgramRecorder:
    """Listens from `start` to `stop`; `finish` gives the program that leads to the tensor named."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._numbers: dict[Any, int] = {}
        self._kept: list[Any] = []  # objects without a number of their own, so that no id is used again
        self._leaves: dict[int, Leaf] = {}
        self._identities: dict[int, Any] = {}
        self._ops: list[Op] = []
        self._made_on_host = 0
        self._read_back = 0
        self._listening = ExitStack()

    def start(self) -> None:
        self._listening.enter_context(listening(self._before, self._after))

    def stop(self) -> None:
        self._listening.close()

    def _before(self, op: HeardOp) -> tuple[HeardOp, tuple[Any, ...], dict[str, Any]]:
        if op.name in _FROM_HOST:
            return op, (), {}
        names = argument_names(op.name)
        args = tuple(
            self._argument(names[place] if place < len(names) else _UNNAMED, value, op.name)
            for place, value in enumerate(op.args)
        )
        return op, args, {name: self._argument(name, value, op.name) for name, value in op.kwargs.items()}

    def _argument(self, name: str, value: Any, op: str) -> Any:
        """An argument with numbers in the place of its tensors; what was not seen before becomes a leaf."""

        def change(part: Any) -> Any:
            if part is self._device:
                return DEVICE
            if not is_device_tensor(part):
                if is_torch_tensor(part):
                    raise BundleError(f"{op} was given a torch tensor as {name}, which no ttnn program begins with")
                return part
            known = self._numbers.get(_identity(part))
            if known is None:
                return Value(self._new_leaf(part, name))
            leaf = self._leaves.get(known)
            if leaf is not None and leaf.name == _UNNAMED:  # it was made on the host: this op says what it is for
                self._leaves[known] = replace(leaf, name=name)
            return Value(known)

        return mapped(value, change)

    def _after(self, token: tuple[HeardOp, tuple[Any, ...], dict[str, Any]], output: Any, *_: Any) -> None:
        op, args, kwargs = token
        if op.name in _FROM_HOST:
            if is_device_tensor(output):
                self._made_on_host += 1
                self._new_leaf(output, _UNNAMED)
            return
        self._read_back += op.name in _TO_HOST
        several = isinstance(output, (tuple, list))
        outputs = tuple(self._number_of(part) for part in (output if several else [output]))
        self._ops.append(Op(op.name, args, kwargs, outputs, several))

    def _number_of(self, tensor: Any) -> int | None:
        if not is_device_tensor(tensor):
            return None
        known = self._numbers.get(_identity(tensor))
        return self._new_number(tensor) if known is None else known

    def _new_number(self, tensor: Any) -> int:
        number = len(self._numbers)
        self._numbers[_identity(tensor)] = number
        self._identities[number] = _identity(tensor)
        self._kept.append(None if _has_number(tensor) else tensor)
        return number

    def _new_leaf(self, tensor: Any, name: str) -> int:
        if reason := unreadable(tensor):
            raise BundleError(f"a tensor of shape {list(tensor.shape)} that the call reads was {reason}")
        device = tensor.device()
        if device is not None and device.get_num_devices() > 1:
            raise BundleError(
                f"the call reads a tensor on {device.get_num_devices()} devices; only a call on one can be bundled"
            )
        number = self._new_number(tensor)
        self._leaves[number] = Leaf(
            name,
            "other",
            compact(to_torch(tensor)),
            _last(tensor.dtype).lower(),
            _last(tensor.layout),
            None if device is None else tensor.memory_config(),
        )
        return number

    def finish(self, output: Any, module: Any, given: Any, caches: Sequence[Any] = ()) -> Recorded:
        """The program that leads to `output`, its leaves under the names that `module` has for them.

        `given` is the input that the module was called with, `caches` are the port's. Raises BundleError where no op
        that was heard gave the output.
        """
        number = self._numbers.get(_identity(output))
        if number is None:
            raise BundleError("no ttnn op that was heard gave the module's output, so its program cannot be written")
        held = {_identity(tensor): path for path, tensor in tensors_held_by(module)}
        cached = {_identity(tensor) for tensor in caches}
        named: dict[int, Leaf] = {}
        taken: set[str] = set()
        for place, leaf in self._leaves.items():
            identity = self._identities[place]
            name, role = leaf.name, "other"
            if given is not None and identity == _identity(given):
                name, role = _INPUT, "input"
            elif identity in held:
                name = held[identity]
                role = "cache" if identity in cached or _is_like_a_cache(leaf.values) else "weight"
            named[place] = replace(leaf, name=_unique(name, taken), role=_role(role))
        program = Program(named, tuple(self._ops), number)
        return Recorded(program, tuple(self._notes()))

    def _notes(self) -> list[str]:
        if self._made_on_host and self._read_back:
            return [
                f"{self._made_on_host} tensors were made on the host within the call, which also read "
                f"{self._read_back} back: where they were computed from these, they are bundled as they were"
            ]
        return []


def compact(values: torch.Tensor) -> torch.Tensor:
    """The same numbers in bfloat16 where it holds them all, as it does those of the block formats, else in fp32."""
    import torch

    if not values.is_floating_point():
        return values.to(torch.int32) if values.dtype in (torch.int64, torch.uint32, torch.uint16) else values.clone()
    small = values.to(torch.bfloat16)
    same = torch.equal(small.float().nan_to_num(nan=0.0), values.float().nan_to_num(nan=0.0))
    return small.clone() if same else values.float().clone()


def identifier(path: str) -> str:
    """A path of attributes as a Python name: `w1._placed` is `w1`, `wqkv.0` is `wqkv_0`."""
    steps = (re.sub(r"\W", "_", step, flags=re.ASCII).strip("_") for step in path.split("."))
    name = "_".join(step for step in steps if step and step not in ("placed", "device_weight")) or "tensor"
    return f"t_{name}" if name[0].isdigit() or keyword.iskeyword(name) or name in _OF_THE_TEST else name


_OF_THE_TEST = {"device", "ttnn", "torch", "os", "json", "run", "on_device", "golden", "places", "TENSORS", "LIMIT"}


def _unique(path: str, taken: set[str]) -> str:
    name = identifier(path)
    found = next(each for each in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if each not in taken)
    taken.add(found)
    return found


def _role(name: str) -> Role:
    roles: Mapping[str, Role] = {"input": "input", "weight": "weight", "cache": "cache"}
    return roles.get(name, "other")


def _is_like_a_cache(values: torch.Tensor) -> bool:
    return sum(size > 1 for size in values.shape) > 2


def _has_number(tensor: Any) -> bool:
    return isinstance(getattr(tensor, "tensor_id", None), int)


def _identity(tensor: Any) -> Any:
    return ("tensor", tensor.tensor_id) if _has_number(tensor) else ("object", id(tensor))


def _last(value: object) -> str:
    return getattr(value, "name", None) or str(value).rpartition(".")[2]
