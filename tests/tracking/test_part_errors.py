# SPDX-License-Identifier: Apache-2.0
"""Which head of a cache and which device of a mesh the error is in; whether only the rotary order of keys differs."""

import json
import math

import pytest
import torch

from tttdebug.tracking.comparison import compare
from tttdebug.tracking.head_order import rotate_heads, unrotate_heads
from tttdebug.tracking.layout import align, align_cache
from tttdebug.tracking.part_errors import with_parts
from tttdebug.tracking.spread import Spread

TOKENS, HEADS, HEAD_DIM, START = 5, 3, 32, 11


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def profile(aligned, **options):
    return with_parts(compare(aligned.reference_TC, aligned.port_TC).profile, aligned, **options)


def cache_profile(written_KTE, truth_KTE, interleaved, keys=True, rotary_dim=None):
    cache = torch.zeros(2, HEADS, 64, HEAD_DIM)
    cache[1, :, START : START + TOKENS] = written_KTE
    reference = truth_KTE.transpose(0, 1).flatten(1)[None]
    return profile(
        align_cache(reference, cache, user=1, start=START, interleaved=interleaved, rotary_dim=rotary_dim), keys=keys
    ).heads


def test_a_wrong_value_is_in_its_head_at_its_position():
    truth = noise(HEADS, TOKENS, HEAD_DIM)
    written = truth.clone()
    written[2, 4, 7] += 3
    heads = cache_profile(written, truth, interleaved=False, keys=False)
    assert heads.first_position == START
    assert [(head, token) for head in range(HEADS) for token in range(TOKENS) if heads.rel_l2[head][token]] == [(2, 4)]
    assert heads.rel_l2[2][4] == pytest.approx(3 / truth[2, 4].norm().item(), rel=1e-3)
    assert heads.other_order == ()
    assert heads.read_as == ""


@pytest.mark.parametrize("rotary_dim", [None, 16])
@pytest.mark.parametrize("declared", [True, False])
def test_keys_written_in_the_other_order_are_right_when_read_in_it(declared, rotary_dim):
    truth = noise(HEADS, TOKENS, HEAD_DIM)
    written = truth if declared else rotate_heads(truth, rotary_dim)
    heads = cache_profile(written, truth, interleaved=declared, rotary_dim=rotary_dim)
    assert heads.read_as == ("interleaved" if declared else "halves")
    assert min(map(min, heads.rel_l2)) > 0.3
    assert heads.other_order_rel_l2 == 0
    assert {value for row in heads.other_order for value in row} == {0.0}


@pytest.mark.parametrize("rotary_dim", [None, 16])
def test_rotating_undoes_unrotating(rotary_dim):
    keys = noise(TOKENS, HEADS, HEAD_DIM)
    assert torch.equal(rotate_heads(unrotate_heads(keys, rotary_dim), rotary_dim), keys)
    assert torch.equal(unrotate_heads(rotate_heads(keys, rotary_dim), rotary_dim), keys)


@pytest.mark.parametrize("dim", [-1, -2])
def test_the_device_whose_part_is_wrong_is_named(dim):
    truth = noise(1, 1, 128, 256)
    shards = [shard.clone() for shard in truth.chunk(4, dim)]
    shards[2] *= 1.5
    shards = profile(align(truth[0], Spread(tuple(shards), (4,), (dim,)))).shards
    assert [(shard.device, round(shard.rel_l2, 6)) for shard in shards] == [(0, 0), (1, 0), (2, 0.5), (3, 0)]


def test_replicas_have_no_parts():
    truth = noise(1, 1, 128, 256)
    assert profile(align(truth[0], Spread((truth, truth), (2,), (None,)))).shards == ()


def test_a_line_of_a_run_has_the_parts_that_there_are():
    truth = noise(HEADS, TOKENS, HEAD_DIM)
    reference = truth.transpose(0, 1).flatten(1)[None]
    aligned = align(reference, reference[None])
    assert not profile(aligned).to_json().keys() & {"heads", "shards"}
    cache = torch.cat([truth, torch.zeros(HEADS, 59, HEAD_DIM)], dim=1)[None]
    kept = profile(align_cache(reference, cache, user=0, start=0, interleaved=False), keys=True).to_json()
    assert json.loads(json.dumps(kept))["heads"]["rel_l2"] == [[0.0] * TOKENS] * HEADS
    assert math.isfinite(kept["heads"]["other_order_rel_l2"])
