# SPDX-License-Identifier: Apache-2.0
"""What a weight is that is not what it should be: of another format, turned, permuted, scaled, or another weight."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.weight_audit import PlacedPart, Status

ALIKE = 0.2
"""Up to this rel_l2 two weights are one and the same in some number format: bfloat4_b costs about 0.12, and unrelated
weights are at 1.4."""
_UNSCALED = 0.02  # a factor nearer to one than this is what rounding does
_SKETCH = 8  # rows that are compared before the whole weight is
_FORMATS = ("bfloat16", "bfloat8_b", "bfloat4_b")


@dataclass(frozen=True)
class Suspect:
    """A weight that differs: what the device holds and what it should, both in the port's layout; `beside` it are the
    parts of its tensor."""

    part: PlacedPart
    held: torch.Tensor
    expected: torch.Tensor
    beside: tuple[PlacedPart, ...]


@dataclass(frozen=True)
class Cause:
    """What a weight is found to be."""

    status: Status
    detail: str


def relative_error(held: torch.Tensor, expected: torch.Tensor) -> float:
    """‖held − expected‖ / ‖expected‖; inf where that is no number."""
    norm = float(expected.norm())
    error = float((held - expected).norm())
    if not error < float("inf"):
        return float("inf")
    return error / norm if norm else (0.0 if error == 0 else float("inf"))


def cause_of(suspect: Suspect, parts: list[PlacedPart], state: Mapping[str, torch.Tensor]) -> Cause:
    """The first explanation that fits, from the nearest to the farthest."""
    import torch

    if not bool(torch.isfinite(suspect.held).all()):
        return Cause("different", f"{int((~torch.isfinite(suspect.held)).sum())} of its values are inf or nan")
    return (
        _other_format(suspect)
        or _other_weight(suspect, parts, state, exactly=True)  # gains near one are alike in all layers
        or _scaled(suspect)
        or _turned(suspect, state)
        or _other_weight(suspect, parts, state)
        or _nearest(suspect, parts, state)
    )


def _other_format(suspect: Suspect) -> Cause | None:
    """The right weight in another number format, or one after another."""
    import torch

    from tttdebug.emulator.formats import FORMATS

    held, expected, declared = suspect.held, suspect.expected, suspect.part.dtype
    if relative_error(held, expected) > ALIKE:
        return None
    for name in _FORMATS:
        packed = FORMATS[name].quantise(expected)
        if name != declared and torch.equal(held, packed):
            return Cause("quantised otherwise", f"holds {name}, declared is {declared}")
        if name != declared and torch.equal(held, FORMATS[declared].quantise(packed)):
            return Cause("quantised otherwise", f"was {name} before it became {declared}, as declared")
        across = FORMATS[name].quantise(expected.mT.contiguous()).mT if expected.ndim > 1 else packed
        if name.endswith("_b") and (
            torch.equal(held, across) or torch.equal(held, FORMATS[declared].quantise(across.contiguous()))
        ):
            return Cause("quantised otherwise", f"{name} with exponents shared along the input dimension")
    return None


def _scaled(suspect: Suspect) -> Cause | None:
    """The right weight times a factor."""
    held, expected = suspect.held.flatten().double(), suspect.expected.flatten().double()
    square = float(expected @ expected)
    factor = float(held @ expected) / square if square else 0.0
    if factor == 0.0 or relative_error(held / factor, expected) > ALIKE:
        return None
    if abs(factor - 1) > _UNSCALED:
        return Cause("scaled", f"by {factor:.4g}")
    error = relative_error(held, expected)
    return Cause("different", f"near the checkpoint's (rel_l2 {error:.3g}), but no number format explains it")


def _turned(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Cause | None:
    """The right values in another order."""
    for status, detail, candidate in _orders(suspect, state):
        if candidate.shape == suspect.held.shape and relative_error(suspect.held, candidate) <= ALIKE:
            return Cause(status, detail)
    return _blocks(suspect, state)


def _orders(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Iterator[tuple[Status, str, torch.Tensor]]:
    """The orders that a weight is mistaken for, in the port's layout."""
    import torch

    part, layout = suspect.part, suspect.part.layout
    weight = part.matrix(state[part.source]).float()
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        yield "transposed", "holds the transpose of what it should", layout.to_port(weight.mT)
        yield "transposed", "as the checkpoint has it, where the port wants its transpose", suspect.expected.mT
    head_dim, rotary_dim = getattr(layout, "head_dim", 0), getattr(layout, "rotary_dim", 0)
    if rotary_dim:
        plain: Any = replace(layout, rotary_dim=0)  # type: ignore[type-var]
        yield (
            "permuted",
            "head rows in Hugging Face's half-split rotary order; this port's are interleaved (Meta)",
            plain.to_port(weight),
        )
        order = _order_of(layout, head_dim)
        yield "permuted", "the interleaving of head rows was applied twice", layout.to_port(_reordered(weight, order))
        yield (
            "permuted",
            "head rows were put in order by the inverse permutation",
            plain.to_port(_reordered(weight, order.argsort())),
        )
    if len(suspect.beside) > 1:
        whole = {
            other.name: other.layout.to_port(other.matrix(state[other.source]).float()) for other in suspect.beside
        }
        start = sum(whole[other.name].shape[-1] for other in suspect.beside[: suspect.beside.index(part)])
        stop = start + suspect.held.shape[-1]
        declared = tuple(whole)
        for names in permutations(whole):
            if names != declared:
                joined = torch.cat([whole[name] for name in names], -1)
                short = "|".join(name.rpartition(".")[2] for name in names)
                yield "permuted", f"the parts of the fused weight are in the order {short}", joined[..., start:stop]


def _order_of(layout: Any, head_dim: int) -> torch.Tensor:
    """Which row of a head the layout puts at each place."""
    import torch

    numbers = torch.arange(head_dim).float()[:, None].expand(head_dim, 1)
    return layout.to_port(numbers).flatten()[:head_dim].long()


def _reordered(weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The rows of every head in another order."""
    return weight.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)


def _blocks(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Cause | None:
    """Blocks of the right weight in another order: heads, or the shards of some number of devices."""
    part = suspect.part
    held, right = part.layout.to_reference(suspect.held), part.matrix(state[part.source]).float()
    if held.shape != right.shape:
        return None
    head_dim = getattr(part.layout, "head_dim", 0)
    for dim in range(right.ndim):
        counts = [right.shape[dim] // head_dim] if head_dim and right.shape[dim] % head_dim == 0 else []
        for count in (*counts, 2, 4, 8):
            if count < 2 or right.shape[dim] % count:
                continue
            order = _block_order(held, right, dim, count)
            if order is not None:
                what = "heads" if count in counts else f"the {count} blocks"
                reversed_ = order == list(range(count))[::-1]
                side = ("output", "input")[dim] if right.ndim == 2 else "only"
                named = "reversed" if reversed_ else f"in the order {', '.join(map(str, order[:16]))}"
                return Cause("permuted", f"{what} along the {side} dimension are {named}")
    return None


def _block_order(held: torch.Tensor, right: torch.Tensor, dim: int, count: int) -> list[int] | None:
    """Which block of the right weight stands at each place, or None where it is no other order of blocks."""
    import torch

    blocks = [torch.stack(side.chunk(count, dim)).flatten(1) for side in (held.float(), right.float())]
    norms = [side.norm(dim=1, keepdim=True).clamp_min(1e-30) for side in blocks]
    alike = (blocks[0] / norms[0]) @ (blocks[1] / norms[1]).T
    best, order = alike.max(dim=1)
    found = [int(i) for i in order]
    if float(best.min()) < 1 - ALIKE**2 / 2 or sorted(found) != list(range(count)) or found == list(range(count)):
        return None
    return found


def _other_weight(
    suspect: Suspect, parts: list[PlacedPart], state: Mapping[str, torch.Tensor], *, exactly: bool = False
) -> Cause | None:
    """Another weight of the checkpoint: of this layer (exchanged), or of another (stale)."""
    import torch

    from tttdebug.emulator.formats import FORMATS

    layer = layer_of(suspect.part.name)
    for other, error in _alike(suspect, parts, state):
        if error > ALIKE:
            continue
        placed = suspect.part.layout.to_port(other.matrix(state[other.source]).float())
        if exactly and not torch.equal(FORMATS[suspect.part.dtype].quantise(placed), suspect.held):
            continue
        if layer_of(other.name) == layer:
            return Cause("permuted", f"exchanged: holds {other.source}")
        if without_layer(other.name) == without_layer(suspect.part.name):
            return Cause("stale", f"holds layer {layer_of(other.name)}'s: {other.source}")
        return Cause("different", f"holds another weight: {other.source}")
    return None


def _alike(
    suspect: Suspect, parts: list[PlacedPart], state: Mapping[str, torch.Tensor]
) -> Iterator[tuple[PlacedPart, float]]:
    """Other weights of the same shape whose first rows already look like it, in the reference's layout."""
    held = suspect.part.layout.to_reference(suspect.held)
    for other in parts:
        if other.name == suspect.part.name or other.source not in state:
            continue
        weight = other.matrix(state[other.source])
        if weight.shape != held.shape:
            continue
        if relative_error(held[:_SKETCH], weight[:_SKETCH].float()) <= 2 * ALIKE:
            yield other, relative_error(held, weight.float())


def _nearest(suspect: Suspect, parts: list[PlacedPart], state: Mapping[str, torch.Tensor]) -> Cause:
    """Nothing fits: the weight of the same shape that points most in its direction, for what it is worth."""
    import torch

    held = suspect.part.layout.to_reference(suspect.held)[:_SKETCH].flatten().double()
    nearest: list[tuple[float, str]] = []
    for other in parts:
        weight = other.matrix(state[other.source]) if other.source in state else None
        rows = None if weight is None else weight[:_SKETCH].flatten().double()
        if rows is not None and rows.shape == held.shape:
            nearest.append((float(torch.cosine_similarity(held, rows, dim=0)), other.source))
    listed = ", ".join(f"{name} ({cosine:.2f})" for cosine, name in sorted(set(nearest), reverse=True)[:3])
    error = relative_error(suspect.held, suspect.expected)
    return Cause("different", f"rel_l2 {error:.3g}; nearest by direction of its first rows: {listed or 'none'}")


_LAYER = re.compile(r"(?<![A-Za-z0-9_])(\d+)(?=\.)")


def layer_of(name: str) -> int | None:
    """The layer number in a path, None where there is none."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def without_layer(name: str) -> str:
    """A path with its layer number taken out."""
    return _LAYER.sub("{i}", name, count=1)
