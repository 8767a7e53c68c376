# SPDX-License-Identifier: Apache-2.0
"""All faults, where each can be put, and putting one by its name into a built port."""

from __future__ import annotations

import difflib
from typing import Any

from tttdebug.errors import FaultError
from tttdebug.faults import attention, networks, norms, numbers, outputs, rotary, state, weights
from tttdebug.faults.site import Fault, Site
from tttdebug.tracking.pairing import module_at

FAULTS: tuple[Fault, ...] = (
    *norms.FAULTS,
    *weights.FAULTS,
    *attention.FAULTS,
    *rotary.FAULTS,
    *networks.FAULTS,
    *outputs.FAULTS,
    *state.FAULTS,
    *numbers.FAULTS,
)


def fault_named(name: str) -> Fault:
    """The fault of that name. Raises FaultError with the nearest names, and all of them."""
    known = {fault.name: fault for fault in FAULTS}
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise FaultError(
            f"there is no fault {name!r}; nearest: {', '.join(nearest) or 'none'}; all: {', '.join(known)}"
        )
    return known[name]


def sites(port: Any, fault: Fault, seed: int = 0) -> tuple[Site, ...]:
    """Every place of a built port that the fault fits, in the order of execution."""
    places = (site_at(port, pair.boundary, pair.port, seed) for pair in port.pairs)
    return tuple(site for site in places if fault.fits(site))


def site_at(port: Any, boundary: str, path: str, seed: int) -> Site:
    import torch

    return Site(port, boundary, module_at(port, path, boundary), torch.Generator().manual_seed(seed))


def inject(port: Any, what: str, seed: int = 0) -> Site:
    """Put a fault, `NAME@BOUNDARY`, or `NAME` alone for a place that the seed draws, into a built port; gives where.

    The port is changed in place. Raises FaultError for an unknown fault or boundary, and for a boundary it cannot be
    at, with those that it can.
    """
    name, _, boundary = what.partition("@")
    fault = fault_named(name)
    fitting = {site.boundary: site for site in sites(port, fault, seed)}
    if not fitting:
        raise FaultError(f"{name} fits no module of this model; it needs another family, or more layers")
    if not boundary:
        boundary = next(iter(fitting.values())).choose(list(fitting))
    if boundary not in fitting:
        nearest = difflib.get_close_matches(boundary, fitting, n=5, cutoff=0.0)
        raise FaultError(
            f"{name} cannot be at {boundary!r}; it fits {len(fitting)} boundaries, such as {', '.join(nearest)}"
        )
    site = fitting[boundary]
    fault.inject(site)
    return site
