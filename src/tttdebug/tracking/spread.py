# SPDX-License-Identifier: Apache-2.0
"""Outputs that lie on the devices of a mesh: read device by device, and put together as the evidence says.

A tensor's topology is asked first and not trusted: ops hand it on whatever they did to the values. What it says has to
give the expected shape, with equal replicas; else the shards themselves are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from tttdebug.backends import device_tensors, is_device_tensor, to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.head_order import are_near, clear_choice
from tttdebug.tracking.pairing import PairLayout

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.aligned import Aligned

Dims = tuple[int | None, ...]
"""For each axis of a mesh the dimension that its devices hold parts of, or None where each holds the same."""
REPLICAS_DIFFER = "replicas differ"
"""What the note of a record begins with whose port held different values where it should have held the same."""


@dataclass(frozen=True)
class Spread:
    """A tensor per device, row by row of a mesh seen as `mesh`, and how its topology says that it was cut."""

    shards: tuple[torch.Tensor, ...]
    mesh: tuple[int, ...]
    topology: Dims

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a shard."""
        return tuple(self.shards[0].shape)

    def __str__(self) -> str:
        return f"{self.shape} on each of {len(self.shards)} devices"


def read_output(value: Any) -> torch.Tensor | Spread:
    """The values of a torch, emulated or ttnn tensor; of one on several devices, those of each.

    Raises DeviceError for a tensor that was freed, while a metal trace is being captured, and for what is no tensor.
    """
    if not is_device_tensor(value):
        return to_torch(value)
    shards = device_tensors(value)
    if len(shards) == 1:
        return to_torch(value)
    topology = value.tensor_topology()
    mesh = tuple(int(size) for size in topology.distribution_shape())
    dims = tuple(None if (dim := getattr(place, "dim", None)) is None else int(dim) for place in topology.placements())
    if math.prod(mesh) != len(shards) or len(mesh) != len(dims):  # it speaks of other devices than these
        mesh, dims = (len(shards),), (None,)
    return Spread(tuple(to_torch(shard) for shard in shards), mesh, dims)


AlignWhole = Callable[["torch.Tensor", PairLayout], "Aligned"]


@dataclass(frozen=True)
class _Fit:
    """A way to put the shards together that leads to the reference's layout; a version for each replica."""

    dims: Dims
    versions: tuple[Aligned, ...]
    devices: tuple[int, ...]  # the first device of each version
    device_of_each: Callable[[int], torch.Tensor | None]  # of a version: see `Aligned.device_TC`
    by_part: bool = False

    @property
    def agrees(self) -> bool:
        """Whether all replicas are equal to the bit, in what is compared of them."""
        return all(_same_bits(version.port_TC, self.versions[0].port_TC) for version in self.versions[1:])


def align_spread(
    reference: torch.Tensor,
    spread: Spread,
    layout: PairLayout,
    phase: str,
    align_whole: AlignWhole,
    dims: tuple[int, ...] = (-1, -2),
) -> Aligned:
    """A spread output beside the reference's; `align_whole` aligns one that is put together.

    In order: shards that are all equal are replicas; the topology, if it leads to the reference's layout; then every
    way to cut along one of `dims` that does. Replicas that differ are a fault of the result, and the farthest of them
    is what is compared.
    Raises LayoutError when no way leads there, or several do and differ.
    """
    differing: list[_Fit] = []
    copied: Dims = (None,) * len(spread.mesh)
    if all(_same_bits(shard, spread.shards[0]) for shard in spread.shards[1:]):
        for fit in _fits(spread, copied, layout, align_whole):
            return _result(fit, spread, _against_topology(copied, spread))
    told: list[_Fit] = []
    for fit in _fits(spread, spread.topology, layout, align_whole):
        if not fit.agrees:
            differing.append(fit)
        elif not _rows_are_whole(spread, fit, layout, phase, align_whole, claimed=True):
            told.append(fit)
    if told:
        return _result(_only(reference, told, spread), spread, "by topology")
    found: list[_Fit] = []
    for way in _ways(spread, dims[:1] if phase == "decode" else dims):
        for fit in _fits(spread, way, layout, align_whole):
            if not _rows_are_whole(spread, fit, layout, phase, align_whole):
                (found if fit.agrees else differing).append(fit)
    if found:
        return _result(_only(reference, found, spread), spread, _against_topology(found[0].dims, spread))
    if differing:
        return _with_fault(min(differing, key=lambda fit: sum(dim is None for dim in fit.dims)), spread)
    raise LayoutError(
        f"the port's output {spread} of a mesh {'x'.join(map(str, spread.mesh))} does not fit the reference's "
        f"{tuple(reference.shape)}: neither whole on each device nor joined along a dimension; its topology says "
        f"{_said(spread.topology)}"
    )


def _rows_are_whole(
    spread: Spread, fit: _Fit, layout: PairLayout, phase: str, align_whole: AlignWhole, *, claimed: bool = False
) -> bool:
    """Whether rows were joined of shards that have all tokens by themselves, so that they are replicas.

    A few tokens on each of four devices have as many rows as the same tokens padded to 128. Where a topology claims
    that rows are cut, the first shard may well have all tokens and the others nothing but padding: then they are
    replicas only if they are nearly equal.
    """
    rank = spread.shards[0].ndim
    uncut = tuple(None if dim in (-2, rank - 2) else dim for dim in fit.dims)
    if phase == "decode" or uncut == fit.dims:
        return False
    alone = next(_fits(spread, uncut, layout, align_whole), None)
    if alone is None or len(alone.versions[0].port_TC) < len(fit.versions[0].port_TC):
        return False
    return not claimed or all(are_near(alone.versions[0].port_TC, each.port_TC) for each in alone.versions[1:])


def _ways(spread: Spread, dims: tuple[int, ...]) -> list[Dims]:
    """How shards may be cut on each axis of the mesh: not at all, or along one of the dimensions.

    Along rows (the second of them) in prefill only: in decode a user's row is there whatever rows are added, so that
    rows are joined where the topology says so.
    """
    axes = [(None, *dims) if size > 1 else (None,) for size in spread.mesh]
    return sorted(product(*axes), key=lambda way: sum(dim is not None for dim in way))


def _fits(spread: Spread, dims: Dims, layout: PairLayout, align_whole: AlignWhole) -> Iterator[_Fit]:
    """The shards put together so, where that leads to the reference's layout: once, or by part and as a whole too."""
    rank = spread.shards[0].ndim
    if any(dim is not None and not -rank <= dim < rank for dim in dims):
        return
    parts = math.prod(size for size, dim in zip(spread.mesh, dims, strict=True) if dim in (-1, rank - 1))
    columns = layout.port_columns
    if columns is not None and parts > 1 and not any(edge % parts for edge in columns):
        # a fused matrix is cut so that each device has its own [q|k|v]
        own = slice(columns[0] // parts, columns[1] // parts)
        cut = replace(spread, shards=tuple(shard[..., own] for shard in spread.shards))
        if fit := _fit(cut, dims, replace(layout, port_columns=None), align_whole):
            named = f"columns {own.start}:{own.stop} of each of {parts} parts"
            versions = tuple(replace(each, adapters=(named, *each.adapters)) for each in fit.versions)
            yield replace(fit, versions=versions, by_part=True)
    if fit := _fit(spread, dims, layout, align_whole):
        yield fit


def _fit(spread: Spread, dims: Dims, layout: PairLayout, align_whole: AlignWhole) -> _Fit | None:
    versions, devices = [], []
    for device, whole in _put_together(spread, dims):
        try:
            versions.append(align_whole(whole, layout))
        except LayoutError:  # this way does not lead there; that no way does is said by align_spread
            return None
        devices.append(device)
    return _Fit(dims, tuple(versions), tuple(devices), partial(_device_of_each, spread, dims, layout, align_whole))


def _device_of_each(
    spread: Spread, dims: Dims, layout: PairLayout, align_whole: AlignWhole, version: int
) -> torch.Tensor | None:
    """The device that each value comes from, found by putting together and aligning the devices' numbers.

    None where nothing is cut, or where padding that spans devices can only be told by its values.
    """
    import torch

    if all(dim is None for dim in dims):
        return None
    numbers = tuple(torch.full_like(shard, device, dtype=torch.float32) for device, shard in enumerate(spread.shards))
    _, whole = list(_put_together(replace(spread, shards=numbers), dims))[version]
    try:
        return align_whole(whole, layout).port_TC
    except LayoutError:
        return None


def _put_together(spread: Spread, dims: Dims) -> Iterator[tuple[int, torch.Tensor]]:
    """A whole tensor for each replica: the first of its devices, and the shards joined along the axes that cut."""
    import torch

    order = torch.arange(len(spread.shards)).reshape(spread.mesh)
    copies = [range(size) if dim is None else (None,) for size, dim in zip(spread.mesh, dims, strict=True)]
    cuts = [dim for dim in dims if dim is not None]
    for choice in product(*copies):
        index = tuple(slice(None) if place is None else place for place in choice)
        chosen = order[index].reshape(-1).tolist()
        parts = [spread.shards[i] for i in chosen]
        for dim, size in zip(reversed(cuts), reversed(order[index].shape), strict=True):
            parts = [torch.cat(parts[i : i + size], dim) for i in range(0, len(parts), size)]
        yield chosen[0], parts[0]


def _only(reference: torch.Tensor, found: list[_Fit], spread: Spread) -> _Fit:
    """The one way of several; equal results are one. Raises LayoutError when two differ and none is clearly right."""
    first = found[0]
    different = [fit for fit in found if not _same_bits(fit.versions[0].port_TC, first.versions[0].port_TC)]
    if not different:
        return first
    by_name = {str(i): fit for i, fit in enumerate([first, *different])}
    shapes = {tuple(fit.versions[0].port_TC.shape) for fit in by_name.values()}
    if len(shapes) == 1:
        choice, _ = clear_choice(
            first.versions[0].reference_TC, {name: fit.versions[0].port_TC for name, fit in by_name.items()}
        )
        if choice is not None:
            return by_name[choice]
    if first.by_part:
        return first
    ways = "; ".join(sorted({_said(fit.dims) for fit in by_name.values()}))
    raise LayoutError(
        f"the port's output {spread} fits the reference's {tuple(reference.shape)} in several ways that differ: "
        f"{ways}; its topology says none of them"
    )


def _result(fit: _Fit, spread: Spread, how: str) -> Aligned:
    aligned = fit.versions[0]
    copies = len(fit.versions)
    equal = f", {copies} replicas equal" if copies > 1 else ""
    step = f"mesh {'x'.join(map(str, spread.mesh))}: {_said(fit.dims)} {how}{equal}"
    return replace(aligned, adapters=(step, *aligned.adapters), device_TC=fit.device_of_each(0))


def _with_fault(fit: _Fit, spread: Spread) -> Aligned:
    """The replica that is farthest from the reference, and that replicas differ."""
    first = fit.versions[0].port_TC
    errors = [float((version.port_TC - version.reference_TC).double().norm()) for version in fit.versions]
    farthest = max(range(len(errors)), key=lambda i: errors[i] if errors[i] == errors[i] else math.inf)
    apart = [(version.port_TC != first).sum().item() for version in fit.versions]
    other = max(range(len(apart)), key=lambda i: apart[i])
    greatest = float((fit.versions[other].port_TC.double() - first.double()).abs().max())
    fault = (
        f"{REPLICAS_DIFFER}: device {fit.devices[other]} from device {fit.devices[0]} in {apart[other]} of "
        f"{first.numel()} values, by up to {greatest:.3g}; device {fit.devices[farthest]}, the farthest from the "
        "reference, is what is compared"
    )
    aligned = fit.versions[farthest]
    step = f"mesh {'x'.join(map(str, spread.mesh))}: {_said(fit.dims)}, replica of device {fit.devices[farthest]}"
    return replace(
        aligned,
        adapters=(step, *aligned.adapters),
        faults=(*aligned.faults, fault),
        device_TC=fit.device_of_each(farthest),
    )


def _against_topology(dims: Dims, spread: Spread) -> str:
    rank = len(spread.shape)
    here, said = ([None if dim is None else dim % rank for dim in way] for way in (dims, spread.topology))
    return "by topology" if here == said else f"by shards (topology says {_said(spread.topology)})"


def _said(dims: Dims) -> str:
    return ", ".join("replicated" if dim is None else f"joined along dim {dim}" for dim in dims)


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal values in all places, a nan where the other has one."""
    import torch

    return a.shape == b.shape and bool(torch.equal(a, b) or ((a == b) | (a.isnan() & b.isnan())).all())
