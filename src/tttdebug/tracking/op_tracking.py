# SPDX-License-Identifier: Apache-2.0
"""Recording every op inside tracked modules: under which boundary, with what settings, and how far from its golden.

An op's inputs are read before it runs, since an op may free or overwrite them, and its output at once after.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor
from tttdebug.tracking.op_record import Judged, OpRecord, TensorNote
from tttdebug.tracking.op_tap import HeardOp, is_torch_tensor, listening

if TYPE_CHECKING:
    from tttdebug.tracking.calls import Call
    from tttdebug.tracking.hooks import PortTap
    from tttdebug.tracking.writer import RunWriter

_KERNEL_SETTINGS = ("math_fidelity", "math_approx_mode", "fp32_dest_acc_en", "packer_l1_acc", "dst_full_sync_en")
_SHOWN_ELSEWHERE = ("compute_kernel_config", "program_config", "config")
_LONGEST_SETTING = 400  # characters


@dataclass(frozen=True)
class _Begun:
    """An op that is running: where it is, what went in, and how long it took to write that down."""

    boundary: str
    index: int
    call: Call
    op: HeardOp
    inputs: tuple[TensorNote, ...]
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]] | Judged
    seconds: float


class OpTracker:
    """Turns the ops that a port calls into records of a run: `with tracker.listening(tap): …`.

    `call` gives the call of the port that is going on, None between them. With `compare=False` settings are recorded
    and nothing is read back.
    """

    def __init__(self, writer: RunWriter, call: Callable[[], Call | None], *, compare: bool = True) -> None:
        self._writer = writer
        self._call = call
        self._compare = compare
        if compare:
            from tttdebug.tracking.op_comparison import judge_op, read_arguments  # they need torch, settings do not

            self._read, self._judge = read_arguments, judge_op
        self._tap: PortTap | None = None
        self._counted: Counter[str] = Counter()
        self._counted_call: Call | None = None
        self._outside: Counter[str] = Counter()

    @contextmanager
    def listening(self, tap: PortTap) -> Iterator[None]:
        """Record the ops inside the modules of `tap` while the block lasts."""
        self._tap = tap
        self._writer.open_ops()
        with listening(self._before, self._after):
            yield
        if self._outside:
            most = ", ".join(f"{name} {count}" for name, count in self._outside.most_common(4))
            self._writer.note(
                f"{self._outside.total()} ops ran outside the tracked modules and are not in ops.jsonl ({most})"
            )

    def _before(self, op: HeardOp) -> _Begun | None:
        started, call = time.perf_counter(), self._call()
        if call is None or self._tap is None:
            return None
        if self._tap.at_work:
            return None
        if not self._tap.inside:
            self._outside[op.name] += 1
            return None
        if call is not self._counted_call:
            self._counted_call = call
            self._counted.clear()
        boundary = self._tap.inside[-1]
        index = self._counted[boundary]
        self._counted[boundary] += 1
        inputs = tuple(_notes(op))
        arguments: Any = self._read(op) if self._compare else Judged("not compared")
        return _Begun(boundary, index, call, op, inputs, arguments, time.perf_counter() - started)

    def _after(self, begun: _Begun, output: Any, plan: object, seconds: float) -> None:
        started = time.perf_counter()
        outputs = tuple(_outputs(output))
        given = begun.arguments
        judged: Judged = given if isinstance(given, Judged) else self._judge(begun.op, given, output)
        users = list(begun.call.users)
        kwargs = begun.op.kwargs
        self._writer.append_op(
            OpRecord(
                boundary=begun.boundary,
                index=begun.index,
                op=begun.op.name,
                **vars(judged),
                phase=begun.call.phase,
                step=begun.call.step,
                user=users[0] if len(users) == 1 else -1,
                inputs=begun.inputs,
                outputs=outputs,
                settings=_settings(begun.op),
                compute_kernel_config=_kernel(kwargs.get("compute_kernel_config")),
                program_config=_short(kwargs.get("program_config", kwargs.get("config"))),
                plan="" if plan is None else _plan(plan),
                engine=begun.op.engine,
                seconds=seconds,
            )
        )
        assert self._tap is not None
        self._tap.leave_out(begun.seconds + time.perf_counter() - started)


def ops_recorded(tracker: OpTracker | None, tap: PortTap) -> AbstractContextManager[None]:
    """`tracker.listening`, or nothing where ops are not tracked."""
    from contextlib import nullcontext

    return nullcontext() if tracker is None else tracker.listening(tap)


def _notes(op: HeardOp) -> Iterator[TensorNote]:
    """What each tensor among the arguments is, also those in lists."""
    names = argument_names(op.name)
    given = [(names[i] if i < len(names) else f"argument {i}", value) for i, value in enumerate(op.args)]
    for name, value in (*given, *op.kwargs.items()):
        if is_device_tensor(value):
            yield _note(name, value)
        elif isinstance(value, (list, tuple)):
            yield from (_note(f"{name}[{i}]", item) for i, item in enumerate(value) if is_device_tensor(item))


def _outputs(output: Any) -> Iterator[TensorNote]:
    if is_device_tensor(output):
        yield _note("output", output)
    elif is_torch_tensor(output):
        yield TensorNote("output", tuple(output.shape), _last(output.dtype), "torch", "host")
    elif isinstance(output, (list, tuple)):
        yield from (_note(f"output[{i}]", item) for i, item in enumerate(output) if is_device_tensor(item))


def _note(name: str, tensor: Any) -> TensorNote:
    """Shape, dtype and layout stay readable when the tensor was freed; where it lay does not."""
    memory = _memory(tensor.memory_config()) if tensor.is_allocated() else "freed"
    return TensorNote(name, tuple(tensor.shape), _last(tensor.dtype), _last(tensor.layout), memory)


def _memory(config: Any) -> str:
    """E.g. `DRAM interleaved`, or `L1 width_sharded [32, 64] on 8 cores`."""
    where = f"{_last(config.buffer_type)} {_last(config.memory_layout).lower()}"
    spec = getattr(config, "shard_spec", None)
    if spec is None:
        return where
    return f"{where} {list(spec.shape)} on {spec.grid.num_cores()} cores"


def _last(value: object) -> str:
    return getattr(value, "name", None) or str(value).rpartition(".")[2]


_NAMES: dict[str, list[str]] = {}


def argument_names(op: str) -> list[str]:
    """How the op calls its positional arguments, as far as its golden says."""
    if "torch" not in sys.modules:  # goldens are made of it
        return []
    from tttdebug.tracking.op_golden_of import collective_golden_of, golden_of

    if op not in _NAMES:
        golden = golden_of(op) or collective_golden_of(op)
        parameters = inspect.signature(golden).parameters.values() if golden else ()
        _NAMES[op] = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return _NAMES[op]


def _settings(op: HeardOp) -> dict[str, str]:
    """The arguments that are no tensors, as text."""
    names = argument_names(op.name)
    given = [(names[i] if i < len(names) else f"argument {i}", value) for i, value in enumerate(op.args)]
    return {
        name: _short(value)
        for name, value in (*given, *op.kwargs.items())
        if value is not None and name not in _SHOWN_ELSEWHERE and not _holds_tensors(value)
    }


def _holds_tensors(value: Any) -> bool:
    return is_device_tensor(value) or (
        isinstance(value, (list, tuple)) and any(is_device_tensor(item) for item in value)
    )


def _kernel(config: Any) -> str:
    """The compute kernel's settings, also of the real package's, whose repr says nothing."""
    if config is None:
        return ""
    settings = {name: getattr(config, name, None) for name in _KERNEL_SETTINGS}
    return ", ".join(f"{name}={_last(value)}" for name, value in settings.items() if value is not None)


@lru_cache(maxsize=1024)
def _plan(plan: object) -> str:
    """A plan of the emulator, its formats by their names: `MatmulPlan(kernel=Kernel(fidelity=HiFi2, …), …)`."""
    if not is_dataclass(plan) or hasattr(plan, "bytes_per_element"):
        return _last(plan) if hasattr(plan, "name") else str(plan)
    parts = ((f.name, getattr(plan, f.name)) for f in fields(plan))
    return f"{type(plan).__name__}({', '.join(f'{name}={_plan(value)}' for name, value in parts if value is not None)})"


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST_SETTING else f"{text[: _LONGEST_SETTING - 1]}…"
