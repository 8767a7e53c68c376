# SPDX-License-Identifier: Apache-2.0
"""What a device tensor holds of a checkpoint, told by its values alone: which weights, which way round, in which order.

A tensor may be one weight or several side by side, turned, padded, cut over the devices of a mesh, in either rotary
order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.backends import device_tensors, to_torch
from tttdebug.tracking.checkpoint_rows import CheckpointRows, Origin
from tttdebug.tracking.weight_blocks import ALIKE
from tttdebug.tracking.weight_causes import layer_of, relative_error

if TYPE_CHECKING:
    import torch

_FORMATS = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")
_ROLES = {
    "gate": ("gate_proj", "gate", "w1", "ff1"),
    "up": ("up_proj", "up", "w3", "ff3"),
    "down": ("down_proj", "down", "w2", "ff2"),
    "q": ("q_proj", "wq"),
    "k": ("k_proj", "wk"),
    "v": ("v_proj", "wv"),
    "o": ("o_proj", "wo"),
    "input norm": ("input_layernorm", "attention_norm", "input_norm"),
    "post-attention norm": ("post_attention_layernorm", "ff_norm", "ffn_norm", "post_attn_norm"),
}
_ROLE_OF = {spelling: role for role, spellings in _ROLES.items() for spelling in spellings}


@dataclass(frozen=True)
class Recognised:
    """A device tensor and what it was found to hold. `turned` says that it lies as [in, out]; `orders` are the rotary
    orders of its query and key parts; `exact` the format in which it is the checkpoint's to the bit, "" where none;
    not `in_order` are rows of the checkpoint's that stand elsewhere."""

    path: str
    tensor: Any
    sources: tuple[str, ...]
    turned: bool | None = None
    square: bool = False
    orders: tuple[str, ...] = ()
    factor: float = 1.0
    exact: str = ""
    in_order: bool = True
    rel_l2: float = math.nan


class Checkpoint:
    """The distinct weights of a checkpoint by name, and what recognises them in a tensor of a port."""

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights = weights
        self._rows, self._head_sizes = CheckpointRows(weights), _head_sizes(weights)

    def found_in(self, path: str, tensor: Any, values: torch.Tensor) -> list[Recognised]:
        """What the tensor at `path` holds, `values` in torch; of each device apart where these hold different parts."""
        whole = _recognise(path, tensor, values, self.weights, self._rows, self._head_sizes)
        if whole is not None and whole.in_order:
            return [whole]
        shards = _recognise_shards(path, tensor, self.weights, self._rows, self._head_sizes)
        return shards or ([] if whole is None else [whole])


def _head_sizes(state: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """The head sizes that rows of a query projection may be grouped by: divisors that models use."""
    rows = {len(tensor) for name, tensor in state.items() if role_of(name) in ("q", "k") and tensor.ndim == 2}
    return tuple(size for size in (256, 128, 96, 80, 64, 48, 40, 32, 16) if rows and all(n % size == 0 for n in rows))


def _recognise(
    path: str,
    tensor: Any,
    values: torch.Tensor,
    state: Mapping[str, torch.Tensor],
    rows: CheckpointRows,
    head_sizes: Sequence[int],
    devices: int = 1,
) -> Recognised | None:
    """What the tensor holds, or None. On one of several `devices` that may be a part of each of several weights."""
    if values.numel() == max(values.shape):
        return _recognise_vector(path, tensor, values.flatten(), state)
    matrix = values.reshape(-1, values.shape[-1])
    recognition = _recognise_matrix(path, tensor, matrix, state, rows, head_sizes, devices)
    padded = bool((matrix.norm(dim=1) == 0).any() or (matrix.norm(dim=0) == 0).any())
    if padded and (recognition is None or not recognition.in_order):
        without = _recognise_matrix(path, tensor, matrix, state, rows, head_sizes, devices, leave_out_zeros=True)
        return without or recognition
    return recognition


def _recognise_matrix(
    path: str,
    tensor: Any,
    matrix: torch.Tensor,
    state: Mapping[str, torch.Tensor],
    rows: CheckpointRows,
    head_sizes: Sequence[int],
    devices: int,
    *,
    leave_out_zeros: bool = False,
) -> Recognised | None:
    """What the matrix holds, either way round; without its rows and columns of zeros where heads may be padded."""
    best: tuple[float, Recognised] | None = None
    for turned in (True, False):
        whole = matrix.T if turned else matrix
        kept_rows, kept_columns = (whole.norm(dim=dim) != 0 for dim in (1, 0))  # what is nan is kept
        held = whole[kept_rows][:, kept_columns] if leave_out_zeros else whole
        origin = rows.origin_of(held)
        if origin is None or (best is not None and origin.share <= best[0]):
            continue
        expected, orders = _assembled(held, origin, state, head_sizes, devices)
        if expected is None:
            continue
        if leave_out_zeros:
            padded = whole.new_zeros(whole.shape)
            padded[kept_rows.nonzero(), kept_columns.nonzero().T] = expected
            expected = padded
        square = matrix.shape[0] == matrix.shape[1] and all(role_of(name) for name in origin.names)
        recognition = _measured(path, tensor, whole, expected, origin.names, turned)
        best = (origin.share, replace(recognition, turned=turned, square=square, orders=orders))
    return best[1] if best else None


def _recognise_shards(
    path: str,
    tensor: Any,
    state: Mapping[str, torch.Tensor],
    rows: CheckpointRows,
    head_sizes: Sequence[int],
) -> list[Recognised]:
    """What each device of a mesh holds, where that is another part of a fused weight; nothing unless all are known."""
    shards = device_tensors(tensor)
    if len(shards) == 1:
        return []
    found = [
        _recognise(f"{path} on device {i}", shard, to_torch(shard).float(), state, rows, head_sizes, len(shards))
        for i, shard in enumerate(shards)
    ]
    sound = [item for item in found if item is not None and item.in_order]
    return sound if len(sound) == len(shards) else []


def _recognise_vector(
    path: str, tensor: Any, values: torch.Tensor, state: Mapping[str, torch.Tensor]
) -> Recognised | None:
    """The vector of the checkpoint that is nearest; where several are, the one that belongs there."""
    errors = [
        (relative_error(values, vector.float()), layer_of(name) != layer_of(path), role_of(name) != role_of(path), name)
        for name, vector in state.items()
        if vector.ndim == 1 and vector.numel() == values.numel()
    ]
    if not errors or min(errors)[0] > ALIKE:
        return None
    name = min(errors)[3]
    return _measured(path, tensor, values, state[name].float(), (name,), turned=False)


def _assembled(
    held: torch.Tensor,
    origin: Origin,
    state: Mapping[str, torch.Tensor],
    head_sizes: Sequence[int],
    devices: int,
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """The rows that `held` should have if it is made of these tensors side by side, and the rotary orders of q and k.

    Rows beyond them are padding and must be zeros; fewer are a part of the one tensor. None where it does not fit.
    """
    import torch

    parts, orders, start = [], [], 0
    names, first_rows = origin.names, origin.first_rows
    if devices == 1 and len(names) == 1 and len(held) < len(state[names[0]]):
        whole = state[names[0]].float()
        chunk = whole[first_rows[0] : first_rows[0] + len(held)]
        return (chunk, ()) if len(chunk) == len(held) else (None, ())
    for name, first_row in zip(names, first_rows, strict=True):
        size = len(state[name]) // devices
        part = state[name].float()[first_row // size * size :][:size]
        here = held[start : start + len(part)]
        if here.shape != part.shape:
            return None, ()
        if role_of(name) in ("q", "k"):
            sizes = [size for size in head_sizes if len(part) % size == 0]
            choices = [("half-split", part), *(("interleaved", _interleaved(part, size)) for size in sizes)]
            order, part = min(choices, key=lambda choice: relative_error(here, choice[1]))
            orders.append(order)
        parts.append(part)
        start += len(part)
    expected = torch.cat(parts)
    if start < len(held):
        expected = torch.cat([expected, expected.new_zeros(len(held) - start, held.shape[1])])
    return expected, tuple(orders)


def _interleaved(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of heads from half-split rotary order to Meta's."""
    return rows.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _measured(
    path: str, tensor: Any, held: torch.Tensor, expected: torch.Tensor, sources: tuple[str, ...], turned: bool
) -> Recognised:
    """How near the tensor is to the checkpoint's: the factor between them, and the format that makes them equal."""
    import torch

    from tttdebug.emulator.formats import FORMATS

    square = float(expected.flatten().double() @ expected.flatten().double())
    factor = float(held.flatten().double() @ expected.flatten().double()) / square if square else 1.0
    on_device, declared = (expected.T.contiguous() if turned else expected), dtype_of(tensor)
    here = held.T if turned else held
    in_order = bool(factor) and relative_error(held / factor, expected) <= ALIKE
    exact = ""
    for name in dict.fromkeys((declared, *_FORMATS)):
        form = FORMATS.get(name)
        packed = on_device if form is None else form.quantise(on_device)
        if torch.equal(here, packed) or (declared in FORMATS and torch.equal(here, FORMATS[declared].quantise(packed))):
            exact = name
            break
    return Recognised(
        path, tensor, sources, factor=factor, exact=exact, in_order=in_order, rel_l2=relative_error(held, expected)
    )


def role_of(path: str) -> str:
    """What a weight does, by the last part of its path that says so; "" where none does."""
    return next((_ROLE_OF[part] for part in reversed(path.split(".")) if part in _ROLE_OF), "")


def dtype_of(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype)).rpartition(".")[2].lower()
