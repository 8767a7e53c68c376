# SPDX-License-Identifier: Apache-2.0
"""Decode steps that really run against a cache on the emulator, with a fault in the step or in the cache."""

import pytest
import torch
from emulated_calls import built, step_of

from tttdebug.analysis.hypotheses import search
from tttdebug.backends import to_torch
from tttdebug.specs import AttentionSpec, RopeSpec

SPEC = AttentionSpec(512, 32, 4, head_dim=32)


def from_spec(**changes):
    spec = {"hidden_dim": 512, "num_heads": 32, "num_kv_heads": 4, "head_dim": 32, **changes}
    return {"given": lambda s, weights, hw, device: built(AttentionSpec(**spec), weights, hw, device)}


def at(position):
    return {"fault": lambda port: position}


def not_written(port):
    port.cache.update = lambda *arguments: None


def edited(edit, *, keys_only=False):
    """The cache edited between prompt and step."""

    def fault(port):
        ttnn, cache = port.ttnn, port.cache
        for name in ("keys",) if keys_only else ("keys", "values"):
            held = edit(to_torch(getattr(cache, name)).clone())
            placed = ttnn.from_torch(held, cache.dtype, layout=ttnn.TILE_LAYOUT, device=port.device)
            setattr(cache, name, placed)

    return {"fault": fault}


def without_block(held_BKLE):
    held_BKLE[:, :, 32:64] = 0.0
    return held_BKLE


def with_block_twice(held_BKLE):
    held_BKLE[:, :, 32:64] = held_BKLE[:, :, :32].clone()
    return held_BKLE


def with_blocks_exchanged(held_BKLE):
    return torch.cat([held_BKLE[:, :, 32:64], held_BKLE[:, :, :32], held_BKLE[:, :, 64:]], dim=2)


FAULTS = {
    "theta": (from_spec(rope=RopeSpec(theta=500000.0)), "rope_theta", "theta 500000 instead of 10000"),
    "window": (from_spec(sliding_window=32), "window", "sliding window of 32"),
    "position after": (at(71), "position_offset", "off by +1"),
    "position before": (at(69), "position_offset", "off by -1"),
    "token not written": ({"fault": not_written}, "kv_stale", "are not written"),
    "block empty": (edited(without_block), "kv_stale", "32..63"),
    "block twice": (
        edited(with_block_twice),
        "kv_block_swapped",
        "block of 32 from position 32 holds that from position 0",
    ),
    "blocks of keys": (edited(with_blocks_exchanged, keys_only=True), "kv_block_swapped", "blocks 0 and 1 of 32"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_first(name):
    arguments, cause, words = FAULTS[name]
    diagnosis = search(step_of(SPEC, **arguments))
    assert diagnosis.confirmed, [(trial.says, trial.rel_l2) for trial in diagnosis.nearest]
    best = diagnosis.confirmed[0]
    assert (best.cause, words in best.says) == (cause, True), best.says


def test_blocks_that_changed_places_as_a_whole_change_nothing():
    assert search(step_of(SPEC, **edited(with_blocks_exchanged))).confirmed == ()


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
def test_nothing_is_confirmed_in_a_healthy_step(precision):
    assert search(step_of(SPEC, precision=precision)).confirmed == ()
