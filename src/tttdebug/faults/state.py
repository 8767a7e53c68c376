# SPDX-License-Identifier: Apache-2.0
"""Faults of what is kept between calls: the key/value cache, users' slots, and calls that are not alike.

B users, K key/value heads, L cache length, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.faults import kinds
from tttdebug.faults.seen_as import change_output, on_host
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.kv_cache import KVCache
from tttdebug.modules.positions import StepPositions

if TYPE_CHECKING:
    import torch

BLOCK = 32
ChangeUser = Callable[["torch.Tensor", int], None]


def each_cache(site: Site, change: Callable[[KVCache], None]) -> None:
    """Change every cache that the module is given from now on."""
    module = site.module
    allocate = module.allocate_cache

    def allocate_cache(users: int, length: int) -> None:
        allocate(users, length)
        change(module.cache)

    vars(module)["allocate_cache"] = allocate_cache


def after_fill(site: Site, change: ChangeUser, *parts: str) -> None:
    """After a prompt is written, change these parts of the cache by `change(a user's [K, L, E], prompt length)`."""

    def with_change(cache: KVCache) -> None:
        fill = cache.fill

        def filled(keys_1KSE: Any, values_1KSE: Any, user: int) -> None:
            fill(keys_1KSE, values_1KSE, user)
            for part in parts:
                held = on_host(site.ttnn, getattr(cache, part), partial(of_user, user, keys_1KSE.shape[2]))
                setattr(cache, part, held)

        vars(cache)["fill"] = filled

    def of_user(user: int, length: int, held_BKLE: torch.Tensor) -> torch.Tensor:
        change(held_BKLE[user], length)
        return held_BKLE

    each_cache(site, with_change)


def _exchange_blocks(held_KLE: torch.Tensor, length: int) -> None:
    first, second = held_KLE[:, :BLOCK].clone(), held_KLE[:, BLOCK : 2 * BLOCK].clone()
    if length >= 2 * BLOCK:
        held_KLE[:, :BLOCK], held_KLE[:, BLOCK : 2 * BLOCK] = second, first


def _forget_block(site: Site) -> ChangeUser:
    place = site.number(0, 100)

    def change(held_KLE: torch.Tensor, length: int) -> None:
        start = BLOCK * (place % max(1, length // BLOCK))
        held_KLE[:, start : start + BLOCK] = 0.0

    return change


def _block_of_another_prompt(site: Site) -> ChangeUser:
    """The first block holds what other tokens left there: the same heads, the prompt's tokens in another order."""
    import torch

    generator = site.generator

    def change(held_KLE: torch.Tensor, length: int) -> None:
        tokens = torch.randperm(length, generator=generator)[:BLOCK]
        held_KLE[:, : len(tokens)] = held_KLE[:, tokens]

    return change


def _late(held_KLE: torch.Tensor, length: int) -> None:
    held_KLE[:, :length] = held_KLE[:, :length].roll(1, 1)


def _updates(site: Site, place: Callable[[int, int], int] | None) -> None:
    """Write a step's keys and values at `place(position, cache length)`, or nowhere."""

    def change(cache: KVCache) -> None:
        update = cache.update

        def updated(keys_1BKE: Any, values_1BKE: Any, positions_B: Any) -> None:
            if place is None:
                return
            own_B, length = site.ttnn.to_torch(positions_B), cache.keys.shape[2]
            moved = own_B.clone().apply_(lambda position: place(int(position), length))
            update(keys_1BKE, values_1BKE, StepPositions(site.module.device, moved).on_device)

        vars(cache)["update"] = updated

    each_cache(site, change)


def _reads_other_layer(site: Site) -> None:
    module, other = site.module, site.beside(site.choose(kinds.layers_alike(site)))
    original = module.attend_step

    def attend(q_1BHE: Any, cache: Any, positions: StepPositions) -> Any:
        return original(q_1BHE, other.cache, positions)

    vars(module)["attend_step"] = attend


def _one_slot_for_all(site: Site) -> None:
    """Every prompt is written into the first user's slot."""

    def change(cache: KVCache) -> None:
        fill = cache.fill
        vars(cache)["fill"] = lambda keys_1KSE, values_1KSE, user: fill(keys_1KSE, values_1KSE, 0)

    each_cache(site, change)


def _users_exchanged(site: Site) -> None:
    def change(out_11BC: torch.Tensor) -> torch.Tensor:
        out_11BC[..., :2, :] = out_11BC[..., :2, :].flip(-2)
        return out_11BC

    change_output(site.module, lambda out: on_host(site.ttnn, out, change), "decode")


def _differs_when_called_again(site: Site) -> None:
    """From the second call on, a part of the output is as old arguments would have it."""
    calls = 0

    def change(out_11SC: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return out_11SC if calls == 1 else out_11SC.lerp(out_11SC.roll(BLOCK, -1), 0.5)

    change_output(site.module, lambda out: on_host(site.ttnn, out, change))


def _noise(site: Site) -> None:
    """Some elements of the output are others at each call, as after a race."""
    import torch

    share = site.choose((0.02, 0.1, 0.5))

    def change(out_11SC: torch.Tensor) -> torch.Tensor:
        hit = torch.rand(out_11SC.shape, generator=site.generator) < share
        noise = torch.randn(out_11SC.shape, generator=site.generator) * out_11SC.std()
        return torch.where(hit, out_11SC + noise, out_11SC)

    change_output(site.module, lambda out: on_host(site.ttnn, out, change))


_cached = kinds.both(kinds.attention, kinds.in_language_model)
_cached_elsewhere = kinds.both(_cached, kinds.other_layers)
_decodes = kinds.both(kinds.in_language_model, lambda site: kinds.attention(site) or kinds.layer(site))
FAULTS: tuple[Fault, ...] = (
    fault(
        "kv_blocks_swapped",
        "state",
        "kv_block_swapped",
        _cached,
        lambda site: after_fill(site, _exchange_blocks, "keys", "values"),
    ),
    fault(
        "key_blocks_swapped",
        "state",
        "kv_block_swapped",
        _cached,
        lambda site: after_fill(site, _exchange_blocks, "keys"),
        steps=1,
    ),
    fault(
        "kv_block_missing",
        "state",
        "kv_stale",
        _cached,
        lambda site: after_fill(site, _forget_block(site), "keys", "values"),
    ),
    fault(
        "kv_of_another_prompt",
        "state",
        "kv_stale",
        _cached,
        lambda site: after_fill(site, _block_of_another_prompt(site), "keys", "values"),
    ),
    fault("kv_written_late", "state", "kv_position", _cached, lambda site: after_fill(site, _late, "keys", "values")),
    fault("kv_step_not_written", "state", "kv_stale", _cached, lambda site: _updates(site, None), steps=1),
    fault(
        "kv_step_written_ahead",
        "state",
        "kv_position",
        _cached,
        lambda site: _updates(site, lambda position, length: min(position + 1, length - 1)),
        steps=1,
    ),
    fault(
        "kv_step_written_behind",
        "state",
        "kv_position",
        _cached,
        lambda site: _updates(site, lambda position, length: position - 1),
        steps=1,
    ),
    fault(
        "kv_of_another_layer",
        "state",
        "kv_stale",
        _cached_elsewhere,
        _reads_other_layer,
        steps=1,
        beyond_its_layer=True,
    ),
    fault("users_in_one_slot", "state", "users_swapped kv_stale", _cached, _one_slot_for_all, users=2, steps=1),
    fault("users_swapped", "state", "users_swapped", _decodes, _users_exchanged, users=2, steps=1),
    fault("second_call_differs", "state", "state_leak", kinds.anything, _differs_when_called_again, steps=1),
    fault("noise", "state", "nondeterministic", kinds.anything, _noise),
)
