# SPDX-License-Identifier: Apache-2.0
"""Finding the one op at fault: the module is right with that op's golden in its place; and that op as a case alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, namespace_of, to_torch
from tttdebug.bundles.case import Case, Seen, seen_output
from tttdebug.bundles.program import DEVICE, Leaf, Op, Program, Value, mapped, values_in
from tttdebug.bundles.recording import compact, identifier
from tttdebug.bundles.replay import Call, op_named, placed, replay
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.op_comparison import goldens_on_one_device, judge_op, read_arguments
from tttdebug.tracking.op_goldens import NoGoldenError
from tttdebug.tracking.op_record import COMPARED, NONFINITE, SHAPE_MISMATCH, Judged
from tttdebug.tracking.op_tap import HeardOp
from tttdebug.tracking.op_tracking import argument_names

if TYPE_CHECKING:
    import torch

_OF_FORMAT, _LEAST = 5.0, 0.005
"""An op alone may be off by so many times what packing its golden in the output's format costs, and by this rel_l2."""


@dataclass(frozen=True)
class Culprits:
    """Ops that are far from their goldens, and the module's error with the goldens in their places: then it passes."""

    places: tuple[int, ...]
    names: tuple[str, ...]
    before: Seen
    after: Seen


def culprits(case: Case, device: Any) -> tuple[Culprits, int] | None:
    """The ops that account for a case's failure, and the place of the worst of them; None where no ops do.

    It is shown by experiment: what each op gives is exchanged for its golden of the inputs that it really had, and the
    rest of the program goes on from there.
    """
    judged = _judged(case.program, device)
    suspects = [place for place, found in judged.items() if _is_wrong(found)]
    if not suspects:
        return None
    before = seen_output(case, replay(case.program, device))
    by_error = sorted(suspects, key=lambda place: -_badness(judged[place]))
    for chosen in (*([place] for place in by_error), suspects):
        after = seen_output(case, _with_goldens(case.program, device, chosen))
        if not after.fails:
            names = tuple(case.program.ops[place].name for place in chosen)
            worst = next(place for place in by_error if place in chosen)
            return Culprits(tuple(chosen), names, before, after), worst
    return None


def op_case(program: Program, device: Any) -> Case:
    """A program of one op as a case: its golden is computed from the leaves, by which it may be cut at will."""
    import torch

    (op,) = program.ops
    function, args, kwargs = _call(program, op, device)
    golden = _goldens(op, function, args, kwargs)[op.outputs.index(program.output)].float()
    output = function(*args, **kwargs)
    whole = to_torch(output[op.outputs.index(program.output)] if op.several else output)
    places = torch.arange(whole.numel()).reshape(whole.shape)
    if golden.shape != whole.shape and golden.numel() != whole.numel():  # the op pads what its golden does not
        places = places[tuple(slice(0, size) for size in golden.shape)]
    golden_TC = golden.reshape(-1, golden.shape[-1])
    packed = _packed(golden, output[op.outputs.index(program.output)] if op.several else output)
    floor = compare(golden_TC, packed.reshape(golden_TC.shape)).rel_l2
    return Case(program, golden_TC, places.reshape(golden_TC.shape), max(_LEAST, _OF_FORMAT * floor), floor)


def alone(program: Program, place: int, device: Any) -> Program:
    """One op of a program as a program of its own: it begins with the inputs that the op really had."""
    op = program.ops[place]
    leaves: dict[int, Leaf] = {}
    worst: dict[int, float] = {}

    def around(here: int, other: Op, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if here != place:
            return function(*args, **kwargs)
        for number, (name, tensor) in _tensors_of(op, args, kwargs).items():
            known = program.leaves.get(number)
            leaves[number] = _leaf(tensor, known.name if known else name, known)
        goldens = _goldens(other, function, args, kwargs)
        output = function(*args, **kwargs)
        for made, golden, given in zip(op.outputs, goldens, output if op.several else [output], strict=True):
            if made is not None:
                worst[made] = _rel_l2(golden, to_torch(given))
        return output

    replay(program, device, around)
    names: set[str] = set()
    for number, leaf in leaves.items():
        name = next(n for n in (leaf.name, *(f"{leaf.name}_{i}" for i in range(2, 99))) if n not in names)
        names.add(name)
        leaves[number] = replace(leaf, name=name)
    return Program(leaves, (op,), max(worst, key=lambda number: worst[number]))


def _judged(program: Program, device: Any) -> dict[int, Judged]:
    """How far each op that gives something new is from its golden."""
    found: dict[int, Judged] = {}

    def around(place: int, op: Op, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        heard = _heard(op, function, args, kwargs)
        arguments = None if op.writes else read_arguments(heard)
        output = function(*args, **kwargs)
        if arguments is not None and any(number is not None for number in op.outputs):
            found[place] = arguments if isinstance(arguments, Judged) else judge_op(heard, arguments, output)
        return output

    replay(program, device, around)
    return found


def _with_goldens(program: Program, device: Any, chosen: Collection[int]) -> torch.Tensor:
    """What a program gives with the goldens of some ops in the place of what these give."""

    def around(place: int, op: Op, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if place not in chosen:
            return function(*args, **kwargs)
        goldens = _goldens(op, function, args, kwargs)
        output = function(*args, **kwargs)
        if not op.several:
            return _in_place_of(output, goldens[0], device)
        parts: Sequence[Any] = [
            _in_place_of(part, golden, device) if is_device_tensor(part) else part
            for part, golden in zip(output, goldens, strict=True)
        ]
        return type(output)(parts)

    return replay(program, device, around)


def _in_place_of(output: Any, golden: torch.Tensor, device: Any) -> Any:
    """A tensor that lies as the output does and holds the golden; rows that are only padding stay."""
    values = to_torch(output).float()
    if golden.numel() == values.numel():
        values = golden.float().reshape(values.shape)
    else:
        values[tuple(slice(0, size) for size in golden.shape)] = golden.float()
    return namespace_of(device).from_torch(
        values, dtype=output.dtype, layout=output.layout, device=device, memory_config=output.memory_config()
    )


def _packed(golden: torch.Tensor, output: Any) -> torch.Tensor:
    """The golden as the output's number format holds it."""
    from tttdebug.emulator.formats import FORMATS

    form = FORMATS.get(str(getattr(output.dtype, "name", output.dtype)).rpartition(".")[2].lower())
    return golden if form is None else form.quantise(golden)


def _is_wrong(judged: Judged) -> bool:
    if judged.status in (NONFINITE, SHAPE_MISMATCH):
        return judged.status == NONFINITE
    format_ = 0.0 if math.isnan(judged.format_rel_l2) else judged.format_rel_l2
    return judged.status == COMPARED and judged.rel_l2 > max(_LEAST, _OF_FORMAT * format_)


def _badness(judged: Judged) -> float:
    return math.inf if judged.status == NONFINITE else judged.rel_l2


def _rel_l2(golden: torch.Tensor, given: torch.Tensor) -> float:
    if golden.numel() != given.numel():
        given = given[tuple(slice(0, size) for size in golden.shape)]
    error = float((given.reshape(golden.shape).double() - golden.double()).norm() / golden.double().norm())
    return error if math.isfinite(error) else math.inf


def _goldens(op: Op, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """What an op should give. Raises NoGoldenError where that is not known, or an input cannot be read."""
    heard = _heard(op, function, args, kwargs)
    arguments = read_arguments(heard)
    if isinstance(arguments, Judged):
        raise NoGoldenError(arguments.note)
    return goldens_on_one_device(heard, arguments)


def _heard(op: Op, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HeardOp:
    return HeardOp(op.name, args, kwargs, "", getattr(function, "golden_function", None))


def _call(program: Program, op: Op, device: Any) -> tuple[Call, tuple[Any, ...], dict[str, Any]]:
    """The call that a program of one op makes."""
    ttnn = namespace_of(device)
    held = {number: placed(leaf, ttnn, device) for number, leaf in program.leaves.items()}

    def tensor(part: Any) -> Any:
        if part is DEVICE:
            return device
        return held[part.number] if isinstance(part, Value) else part

    return op_named(ttnn, op.name), mapped(op.args, tensor), mapped(dict(op.kwargs), tensor)


def _tensors_of(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, tuple[str, Any]]:
    """The tensors that an op got, by their numbers, each with the name of the argument."""
    names = argument_names(op.name)
    found: dict[int, tuple[str, Any]] = {}
    given = [(names[i] if i < len(names) else "tensor", op.args[i], args[i]) for i in range(len(args))]
    given += [(name, value, kwargs[name]) for name, value in op.kwargs.items()]
    for name, symbol, actual in given:
        if isinstance(symbol, Value):
            found.setdefault(symbol.number, (identifier(name), actual))
        elif type(symbol) in (list, tuple):
            for value, tensor in zip(values_in(symbol), (t for t in actual if is_device_tensor(t)), strict=True):
                found.setdefault(value.number, (identifier(name), tensor))
    return found


def _leaf(tensor: Any, name: str, known: Leaf | None) -> Leaf:
    device = tensor.device()
    dtype, layout = (str(getattr(part, "name", part)).rpartition(".")[2] for part in (tensor.dtype, tensor.layout))
    memory = None if device is None else tensor.memory_config()
    role = "input" if known is None else known.role
    return Leaf(name, role, compact(to_torch(tensor)), dtype.lower(), layout, memory)
