# SPDX-License-Identifier: Apache-2.0
"""The weight audit of a port that declares nothing: what each of its device tensors is, told by its values.

A port may lay its weights out as it likes, as long as it does so everywhere: a matrix that is turned, or heads in
another rotary order, where the rest of the port has them otherwise, is a fault. So is a layer that holds another
layer's weight, a gate that holds the up projection, and a tensor of the checkpoint that is nowhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tttdebug.backends import to_torch, unreadable
from tttdebug.tracking.device_tensors import tensors_held_by
from tttdebug.tracking.recognised_weights import Checkpoint, Recognised, dtype_of, role_of
from tttdebug.tracking.weight_audit import Status, WeightFinding
from tttdebug.tracking.weight_causes import layer_of

if TYPE_CHECKING:
    import torch

_UNSCALED = 0.02


def recognised(port: Any, state: Mapping[str, torch.Tensor]) -> Iterator[WeightFinding]:
    """A finding for every weight of the checkpoint that is found in the port, and for each that is not."""
    known, aliases = _distinct(state)
    checkpoint = Checkpoint(known)
    found: list[Recognised] = []
    unknown: list[tuple[str, Any, torch.Tensor]] = []
    for path, tensor in tensors_held_by(port):
        is_matrix = sum(size > 1 for size in tensor.shape) <= 2  # with more it is a key/value cache
        if not is_matrix or unreadable(tensor) is not None or not _is_float(tensor):
            continue
        values = to_torch(tensor).float()
        if not bool(values.any()):  # an empty cache
            continue
        here = checkpoint.found_in(path, tensor, values)
        found += here
        unknown += [] if here else [(path, tensor, values)]
    conventions = _Conventions(found)
    for recognition in found:
        yield from _findings(recognition, conventions, aliases)
    missing = [name for name in known if not any(name in recognition.sources for recognition in found)]
    yield from _unaccounted(missing, unknown, known)


def _distinct(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """The checkpoint's tensors without those that share another's memory (a tied head), and who shares with whom."""
    names: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim in (1, 2):
            names.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return {group[0]: state[group[0]] for group in names.values()}, {group[0]: tuple(group) for group in names.values()}


class _Conventions:
    """How most of a port lies: its matrices as [in, out] or [out, in], its heads in which rotary order."""

    def __init__(self, found: Sequence[Recognised]) -> None:
        linear = [item.turned for item in found if item.orders or all(role_of(name) for name in item.sources)]
        not_square = [item.turned for item in found if not item.square and item.turned is not None]
        votes = Counter(not_square or linear)
        self.turned = votes.most_common(1)[0][0] if votes else None
        orders = Counter(order for item in found for order in item.orders)
        self.order = orders.most_common(1)[0][0] if orders else ""


def _findings(
    item: Recognised, conventions: _Conventions, aliases: Mapping[str, tuple[str, ...]]
) -> Iterator[WeightFinding]:
    status, detail = _status_of(item, conventions)
    layout = "[in, out]" if item.turned else "[out, in]" if item.turned is not None else ""
    told = ", ".join(filter(None, (detail, layout, *dict.fromkeys(item.orders))))
    for source in item.sources:
        shared = " = ".join(aliases.get(source, (source,)))
        yield WeightFinding(
            item.path, item.path, shared, status, told, item.rel_l2, dtype_of(item.tensor), tuple(item.tensor.shape)
        )


def _status_of(item: Recognised, conventions: _Conventions) -> tuple[Status, str]:
    """The first thing that is wrong with a tensor, or that nothing is."""
    place, layers = layer_of(item.path), {layer_of(source) for source in item.sources}
    if place is not None and layers != {place}:
        return "stale", f"holds layer {', '.join(str(layer) for layer in layers)}'s"
    wanted, held = role_of(item.path), [role_of(source) for source in item.sources]
    if wanted and len(held) == 1 and held[0] and held[0] != wanted:
        return "permuted", f"exchanged: holds the {held[0]} weight"
    if len(held) == 3 and set(held) == {"q", "k", "v"} and held != ["q", "k", "v"]:
        return "permuted", f"the parts of the fused weight are in the order {'|'.join(held)}"
    if item.square and item.turned != conventions.turned:
        return "transposed", "lies the other way round than the port's other matrices"
    if any(order != conventions.order for order in item.orders):
        return "permuted", f"rotary order {', '.join(item.orders)}, the port's other heads are {conventions.order}"
    if not item.in_order:
        return "permuted", "its rows are the checkpoint's in another order"
    if abs(item.factor - 1) > _UNSCALED and not item.exact:
        return "scaled", f"by {item.factor:.4g}"
    declared = dtype_of(item.tensor)
    if item.exact and item.exact == declared:
        return ("equal", "") if item.rel_l2 == 0 else ("quantised as declared", declared)
    if item.exact:
        return ("equal", "") if item.rel_l2 == 0 else ("quantised otherwise", f"holds {item.exact} in {declared}")
    return "different", f"near the checkpoint's (rel_l2 {item.rel_l2:.3g}), but no number format explains it"


def _unaccounted(
    missing: Sequence[str], unknown: Sequence[tuple[str, Any, torch.Tensor]], state: Mapping[str, torch.Tensor]
) -> Iterator[WeightFinding]:
    """Weights of the checkpoint that no tensor of the port holds; and, where one stands in their place, that."""
    left = list(unknown)
    for name in missing:
        size = state[name].numel()
        here = [
            item
            for item in left
            if item[2].numel() == size and layer_of(item[0]) == layer_of(name) and _fits(item[0], name)
        ]
        if len(here) == 1:
            path, tensor, values = here[0]
            left.remove(here[0])
            finite = "" if bool(values.isfinite().all()) else "; it holds inf or nan"
            detail = f"the tensor in its place is no weight of the checkpoint{finite}"
            yield WeightFinding(path, path, name, "different", detail, math.nan, dtype_of(tensor), tuple(tensor.shape))
        else:
            yield WeightFinding("", "", name, "missing", "no tensor of the port holds it", math.nan, "", ())


def _fits(path: str, name: str) -> bool:
    return not role_of(path) or role_of(path) == role_of(name)


def _is_float(tensor: Any) -> bool:
    return "int" not in dtype_of(tensor)
