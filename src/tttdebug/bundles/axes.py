# SPDX-License-Identifier: Apache-2.0
"""What can be cut off a case: the tokens, columns and cache of a module; of a single op also heads, users and K.

M rows, K inner size and N columns of a product; T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from tttdebug.bundles.case import Case, module_case
from tttdebug.bundles.one_op import op_case
from tttdebug.bundles.program import Leaf, Op, Program, Value
from tttdebug.tracking.op_goldens import ELEMENTWISE
from tttdebug.tracking.op_tracking import argument_names

if TYPE_CHECKING:
    from tttdebug.bundles.capture import Captured

TILE = 32


@dataclass(frozen=True)
class Axis:
    """One size of a case, and the case of a smaller one; `to` gives None where it cannot be so small."""

    name: str
    size: int
    step: int
    to: Callable[[int], Case | None]

    @property
    def sizes(self) -> Iterator[int]:
        """Smaller sizes to try, the smallest first."""
        size = self.step
        while size < self.size:
            yield size
            size *= 2


def module_axes(case: Case, captured: Captured) -> Iterator[Axis]:
    """What can be cut off a whole module: its golden is the reference's, of which a part must be known to stay."""
    x = next((leaf for leaf in case.program.leaves.values() if leaf.role == "input"), None)
    if x is not None and captured.call.phase == "prefill" and x.values.ndim > 1:
        rows = x.values.shape[-2]
        yield Axis("tokens", rows, TILE, partial(_of_first_tokens, case, captured, rows))
    last = _last_product(case.program)
    if last is not None:
        columns = case.program.leaves[last[0]].values.shape[-1]
        yield Axis("columns of the last product", columns, TILE, partial(_of_columns, case, captured, *last))
    pages = _pages(case.program)
    if pages is not None and captured.row < pages.table.values.shape[0]:
        size, each = pages.blocks, pages.table.values.shape[1]
        yield Axis("cache pages", size, each, partial(_of_pages, case, pages, captured.row))
    for dim, name, step in () if pages is not None else ((-2, "cache length", TILE), (0, "cache users", 1)):
        caches = [leaf for leaf in case.program.leaves.values() if leaf.role == "cache"]
        sizes = {leaf.values.shape[dim] for leaf in caches if leaf.values.ndim == 4}
        if len(sizes) == 1:
            yield Axis(name, sizes.pop(), step, partial(_of_caches, case, dim))


def op_axes(case: Case, device: Any) -> Iterator[Axis]:
    """What can be cut off a single op: anything its leaves share, since its golden is computed again."""
    (op,) = case.program.ops
    named = _numbers_by_argument(op)
    turned = any(op.kwargs.get(name) for name in ("transpose_a", "transpose_b"))
    for axis, places in {} if turned else _axes_of(op).items():
        given = [(named[name], dim) for name, dim in places if name in named]
        if not places:  # an elementwise op: whatever its tensors have in common
            given = [(number, _COMMON[axis]) for number in op.reads]
        sized = {place: size for place in given if (size := _size(case.program.leaves[place[0]], place[1])) > 1}
        smallest = min(sized.values(), default=1)
        if smallest > 1 and not any(size % smallest for size in sized.values()):
            step = 1 if axis in ("key/value heads", "heads", "batch") else TILE
            yield Axis(axis, smallest, step, partial(_of_op, case, sized, smallest, device))


def _of_op(case: Case, sized: Mapping[tuple[int, int], int], smallest: int, device: Any, size: int) -> Case:
    """A size along which several tensors lie, cut in all of them; one that is a multiple stays so."""
    cuts: dict[int, dict[int, int]] = {}
    for (number, dim), own in sized.items():
        cuts.setdefault(number, {})[dim] = size * (own // smallest)
    return op_case(cut(case.program, cuts), device)


def _size(leaf: Leaf, dim: int) -> int:
    """A leaf's size along a dimension, 1 where it has none."""
    shape = leaf.values.shape
    return int(shape[dim]) if -len(shape) <= dim < len(shape) else 1


def _axes_of(op: Op) -> Mapping[str, tuple[tuple[str, int], ...]]:
    if op.name in ELEMENTWISE:
        return dict.fromkeys(_COMMON, ())
    return _AXES_OF_OP.get(op.name, {})


def cut(program: Program, cuts: Mapping[int, Mapping[int, int]]) -> Program:
    """A program that begins with the first parts of some leaves: for each the size that a dimension is cut to."""
    return program.with_leaves({number: _narrowed(program.leaves[number], sizes) for number, sizes in cuts.items()})


def _narrowed(leaf: Leaf, sizes: Mapping[int, int]) -> Leaf:
    values: torch.Tensor = leaf.values
    for dim, size in sizes.items():
        values = values.narrow(dim, 0, min(size, values.shape[dim]))
    return replace(leaf, values=values.contiguous())


def _cut_alike(program: Program, like: Program, cuts: Mapping[int, Mapping[int, int]]) -> Program | None:
    """The sound program with the same cuts, its leaves told by their names; None where it lacks one."""
    numbers = {leaf.name: number for number, leaf in program.leaves.items()}
    named = {like.leaves[number].name: sizes for number, sizes in cuts.items()}
    if not named.keys() <= numbers.keys():
        return None
    return cut(program, {numbers[name]: sizes for name, sizes in named.items()})


def _of_first_tokens(case: Case, captured: Captured, rows: int, size: int) -> Case | None:
    """The first rows of the input and of every table that has as many; the first tokens of the golden."""
    tokens = min(size, len(case.golden_TC))
    golden_TC = captured.golden_of_first(tokens)
    if golden_TC is None or any(
        rows in leaf.values.shape for leaf in case.program.leaves.values() if leaf.role == "weight"
    ):
        return None
    golden_TC = golden_TC[:, : case.golden_TC.shape[1]]
    cuts: dict[int, dict[int, int]] = {}
    for number, leaf in case.program.leaves.items():
        shape = leaf.values.shape
        if leaf.role not in ("input", "other") or len(shape) < 2 or shape[-2] != rows:
            continue
        cuts[number] = {-2: size} | ({-1: size} if shape[-1] == rows and leaf.role == "other" else {})
    program = _with_sizes(cut(case.program, cuts), rows, size)
    control = None if case.control is None else _cut_alike(case.control, case.program, cuts)
    floor_TC = None if case.floor_TC is None else case.floor_TC[:tokens]
    places_TC = case.places_TC[:tokens]
    if control is not None:
        control = _with_sizes(control, rows, size)
    return module_case(program, golden_TC, places_TC, floor_TC, control, captured)


def _with_sizes(program: Program, old: int, new: int) -> Program:
    """The same with another size wherever an op was given the old one in a list, as reshape and slice are."""

    def change(part: Any) -> Any:
        if type(part) in (list, tuple):
            return type(part)(new if type(item) is int and item == old else change(item) for item in part)
        return part

    ops = tuple(
        replace(op, args=tuple(map(change, op.args)), kwargs={name: change(value) for name, value in op.kwargs.items()})
        for op in program.ops
    )
    return replace(program, ops=ops)


def _of_columns(case: Case, captured: Captured, weight: int, bias: int | None, size: int) -> Case | None:
    """The first columns of the last product's weight, and of the golden."""
    whole = case.program.leaves[weight].values.shape[-1]
    rows_TC, columns_TC = case.places_TC // whole, case.places_TC % whole
    kept_C = columns_TC[0] < size
    if not bool((columns_TC == columns_TC[0]).all()) or not bool(kept_C.any()):
        return None
    cuts = {number: {-1: size} for number in (weight, bias) if number is not None}
    control = None if case.control is None else _cut_alike(case.control, case.program, cuts)
    return module_case(
        cut(case.program, cuts),
        case.golden_TC[:, kept_C],
        (rows_TC * size + columns_TC)[:, kept_C],
        None if case.floor_TC is None else case.floor_TC[:, kept_C],
        control,
        captured,
    )


def _of_caches(case: Case, dim: int, size: int) -> Case:
    cuts = {number: {dim: size} for number, leaf in case.program.leaves.items() if leaf.role == "cache"}
    control = None if case.control is None else _cut_alike(case.control, case.program, cuts)
    return replace(case, program=cut(case.program, cuts), control=control)


@dataclass(frozen=True)
class _Pages:
    """A cache in pages: its table [B, P] with its number among the leaves, and how many blocks the cache has."""

    number: int
    table: Leaf
    blocks: int
    caches: tuple[int, ...]


def _pages(program: Program) -> _Pages | None:
    """The paged cache of a program, None where it has none."""
    caches = [number for number, leaf in program.leaves.items() if leaf.role == "cache" and leaf.values.ndim == 4]
    blocks = {program.leaves[number].values.shape[0] for number in caches}
    tables = {
        value.number
        for op in program.ops
        for name, value in _arguments(op).items()
        if name.startswith("page_table") and isinstance(value, Value) and value.number in program.leaves
    }
    if len(blocks) != 1 or len(tables) != 1:
        return None
    (number,) = tables
    table = program.leaves[number]
    if table.values.ndim != 2 or not 0 <= int(table.values.min()) <= int(table.values.max()) < min(blocks):
        return None
    return _Pages(number, table, blocks.pop(), tuple(caches))


def _of_pages(case: Case, pages: _Pages, row: int, size: int) -> Case | None:
    """Only the pages of the user at a row, renumbered from 0; all other users' entries are page 0."""
    mine_P = pages.table.values[row].long()
    if size != len(mine_P) or len(mine_P.unique()) != size:
        return None
    renumbered_BP = pages.table.values.clone().zero_()
    renumbered_BP[row] = torch.arange(size, dtype=renumbered_BP.dtype)

    leaves = case.program.leaves
    changed = {n: replace(leaves[n], values=leaves[n].values[mine_P].contiguous()) for n in pages.caches}
    changed[pages.number] = replace(pages.table, values=renumbered_BP)
    return replace(case, program=case.program.with_leaves(changed), control=None)


_MOVES = ("to_memory_config", "sharded_to_interleaved", "interleaved_to_sharded", "typecast", "to_layout", "reallocate")


def _last_product(program: Program) -> tuple[int, int | None] | None:
    """The weight and the bias of the product that the output comes from, if they are leaves and nothing follows it."""
    wanted = program.output
    for op in reversed(program.ops):
        if wanted not in op.outputs:
            continue
        named = _numbers_by_argument(op)
        if op.name in ("ttnn.linear", "ttnn.matmul"):
            weight, bias = named.get("input_tensor_b"), named.get("bias")
            turned = op.kwargs.get("transpose_b", False)
            is_leaf = weight in program.leaves and (bias is None or bias in program.leaves)
            return (weight, bias) if weight is not None and is_leaf and not turned else None
        if op.name.rpartition(".")[2] not in _MOVES or len(op.reads) != 1:
            return None
        (wanted,) = op.reads
    return None


def _numbers_by_argument(op: Op) -> dict[str, int]:
    """The tensors that an op gets, by what it calls them."""
    return {name: value.number for name, value in _arguments(op).items() if isinstance(value, Value)}


def _arguments(op: Op) -> dict[str, Any]:
    """An op's arguments by their names, as far as these are known."""
    return {**dict(zip(argument_names(op.name), op.args, strict=False)), **op.kwargs}


_PRODUCT = {
    "M": (("input_tensor_a", -2),),
    "K": (("input_tensor_a", -1), ("input_tensor_b", -2)),
    "N": (("input_tensor_b", -1), ("bias", -1)),
}
_QKV = ("input_tensor_q", "input_tensor_k", "input_tensor_v")
_NORM = {"rows": (("input_tensor", -2), ("residual_input_tensor", -2))}
_AXES_OF_OP: Mapping[str, Mapping[str, tuple[tuple[str, int], ...]]] = {
    "ttnn.linear": _PRODUCT,
    "ttnn.matmul": _PRODUCT,
    "ttnn.experimental.minimal_matmul": {
        "M": (("input_tensor", -2),),
        "K": (("input_tensor", -1), ("weight_tensor", -2)),
        "N": (("weight_tensor", -1), ("bias_tensor", -1)),
    },
    "ttnn.transformer.scaled_dot_product_attention": {
        "batch": tuple((name, 0) for name in _QKV),
        "key/value heads": tuple((name, 1) for name in _QKV),
        "sequence": (*((name, -2) for name in _QKV), ("attn_mask", -2), ("attn_mask", -1)),
    },
    "ttnn.transformer.scaled_dot_product_attention_decode": {
        "key/value heads": (("input_tensor_q", 2), ("input_tensor_k", 1), ("input_tensor_v", 1)),
        "cache length": (("input_tensor_k", -2), ("input_tensor_v", -2)),
    },
    "ttnn.experimental.rotary_embedding_llama": {
        "heads": (("input_tensor", 1),),
        "sequence": (("input_tensor", -2), ("cos_cache", -2), ("sin_cache", -2)),
    },
    "ttnn.rms_norm": _NORM,
    "ttnn.layer_norm": _NORM,
    "ttnn.softmax": {"rows": (("input_tensor", -2),)},
}
_COMMON = {"batch": 0, "heads": 1, "rows": -2, "columns": -1}
