# SPDX-License-Identifier: Apache-2.0
"""What a weight is that is not what it should be: of another format, turned, permuted, scaled, or another weight."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.weight_blocks import ALIKE, moved_blocks, wrong_part

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.weight_audit import PlacedPart, Status

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
    """What a weight is found to be: in words for an audit, and by its name in `analysis.causes`, "" where none fits."""

    status: Status
    detail: str
    name: str = ""


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

    if not bool(suspect.held.any()):
        return Cause("different", "all zeros", "weight_missing")
    if not bool(torch.isfinite(suspect.held).all()):
        return Cause("different", f"{int((~torch.isfinite(suspect.held)).sum())} of its values are inf or nan")
    return (
        _other_format(suspect)
        or _other_weight(suspect, parts, state, exactly=True)  # gains near one are alike in all layers
        or _scaled(suspect)
        or _turned(suspect, state)
        or _in_blocks(suspect, state)
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
            return Cause("quantised otherwise", f"holds {name}, declared is {declared}", "cast_low")
        if name != declared and torch.equal(held, FORMATS[declared].quantise(packed)):
            costs = "" if name == "bfloat16" else "cast_low"  # rounding to bfloat16 first costs next to nothing
            return Cause("quantised otherwise", f"was {name} before it became {declared}, as declared", costs)
        across = FORMATS[name].quantise(expected.mT.contiguous()).mT if expected.ndim > 1 else packed
        if name.endswith("_b") and (
            torch.equal(held, across) or torch.equal(held, FORMATS[declared].quantise(across.contiguous()))
        ):
            detail = f"{name} with exponents shared along the input dimension"
            return Cause("quantised otherwise", detail, "cast_low")
    return None


def _scaled(suspect: Suspect) -> Cause | None:
    """The right weight times a factor."""
    held, expected = suspect.held.flatten().double(), suspect.expected.flatten().double()
    square = float(expected @ expected)
    factor = float(held @ expected) / square if square else 0.0
    if factor == 0.0 or relative_error(held / factor, expected) > ALIKE:
        return None
    if abs(factor - 1) > _UNSCALED:
        return Cause("scaled", f"by {factor:.4g}", "scaled")
    error = relative_error(held, expected)
    return Cause("different", f"near the checkpoint's (rel_l2 {error:.3g}), but no number format explains it")


def _turned(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Cause | None:
    """The right values in another order."""
    for cause, candidate in _orders(suspect, state):
        if candidate.shape == suspect.held.shape and relative_error(suspect.held, candidate) <= ALIKE:
            return cause
    return None


def _orders(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Iterator[tuple[Cause, torch.Tensor]]:
    """The orders that a weight is mistaken for, in the port's layout."""
    import torch

    part, layout = suspect.part, suspect.part.layout
    weight = part.matrix(state[part.source]).float()
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        turned = partial(Cause, "transposed", name="weight_transposed")
        yield turned("holds the transpose of what it should"), layout.to_port(weight.mT)
        yield turned("as the checkpoint has it, where the port wants its transpose"), suspect.expected.mT
    head_dim, rotary_dim = getattr(layout, "head_dim", 0), getattr(layout, "rotary_dim", 0)
    if rotary_dim:
        plain: Any = replace(layout, rotary_dim=0)  # type: ignore[type-var]
        order, other_order = _order_of(layout, head_dim), partial(Cause, "permuted", name="rope_order")
        yield (
            other_order("head rows in Hugging Face's half-split rotary order; this port's are interleaved (Meta)"),
            plain.to_port(weight),
        )
        yield (
            other_order("the interleaving of head rows was applied twice"),
            layout.to_port(_reordered(weight, order)),
        )
        yield (
            other_order("head rows were put in order by the inverse permutation"),
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
                detail = f"the parts of the fused weight are in the order {short}"
                yield Cause("permuted", detail, "weights_exchanged"), joined[..., start:stop]


def _in_blocks(suspect: Suspect, state: Mapping[str, torch.Tensor]) -> Cause | None:
    """Blocks of the right weight in another order, heads or shards, or some of them wrong."""
    part = suspect.part
    held, right = part.layout.to_reference(suspect.held), part.matrix(state[part.source]).float()
    if held.shape != right.shape:
        return None
    if (moved := moved_blocks(held, right, getattr(part.layout, "head_dim", 0))) is not None:
        return Cause("permuted", str(moved), "heads_permuted" if moved.are_heads else "shard_order")
    wrong = wrong_part(held, right)
    return Cause("different", f"{wrong}, the rest is right", "weight_block_bad") if wrong else None


def _order_of(layout: Any, head_dim: int) -> torch.Tensor:
    """Which row of a head the layout puts at each place."""
    import torch

    numbers = torch.arange(head_dim).float()[:, None].expand(head_dim, 1)
    return layout.to_port(numbers).flatten()[:head_dim].long()


def _reordered(weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The rows of every head in another order."""
    return weight.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)


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
            return Cause("permuted", f"exchanged: holds {other.source}", "weights_exchanged")
        if without_layer(other.name) == without_layer(suspect.part.name):
            return Cause("stale", f"holds layer {layer_of(other.name)}'s: {other.source}", "weight_stale")
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
