# SPDX-License-Identifier: Apache-2.0
"""Special cases that two tensors show: outlier channels, flipped choices, caches that lie otherwise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.analysis.special import choice_flips, outlier_channels, read_cache
from tttdebug.errors import LayoutError
from tttdebug.tracking.head_order import unrotate_heads

CHECKED = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**16)
NOISE = 0.003


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy(values, seed=1, noise=NOISE):
    return values + noise * draw(seed, *values.shape)


# Outlier channels


@CHECKED
@given(SEEDS, st.integers(0, 575), st.integers(0, 39))
def test_a_massive_activation_is_named_with_what_it_makes_of_the_error(seed, channel, token):
    reference_TC = draw(seed, 40, 576)
    reference_TC[token, channel] = 900.0
    port_TC = noisy(reference_TC)
    port_TC[token, channel] = 903.0
    (outlier,) = outlier_channels(reference_TC, port_TC)
    assert (outlier.channel, outlier.token, outlier.magnitude) == (channel, token, 900.0)
    error_TC = (port_TC - reference_TC).double().square()
    assert outlier.share_of_error == pytest.approx(float(error_TC[:, channel].sum() / error_TC.sum()))
    assert outlier.rel_l2_of_rest == pytest.approx(NOISE, rel=0.05)
    assert f"channel {channel} is " in str(outlier)
    assert f"makes {100 * outlier.share_of_error:.0f} % of the error" in str(outlier)


def test_values_without_massive_activations_have_no_outliers():
    reference_TC = draw(3, 128, 576)
    assert outlier_channels(reference_TC, noisy(reference_TC)) == ()


def test_several_outliers_come_by_what_they_make_of_the_error():
    reference_TC = draw(3, 128, 576)
    reference_TC[:, 7], reference_TC[:, 90] = 200.0, 300.0
    port_TC = noisy(reference_TC)
    port_TC[:, 7] += 1.0
    assert [outlier.channel for outlier in outlier_channels(reference_TC, port_TC)] == [7, 90]


# Choices


@CHECKED
@given(SEEDS, st.integers(1, 4), st.integers(0, 29))
def test_two_experts_exchanged_against_a_wide_margin_are_a_real_flip(seed, k, token):
    reference_TE = torch.stack([torch.randperm(16).double() for _ in range(30)])
    port_TE = reference_TE + 0.01 * draw(seed, 30, 16)
    order = reference_TE[token].argsort(descending=True).tolist()
    taken, left = order[k - 1], order[k]
    port_TE[token, [taken, left]] = port_TE[token, [left, taken]]
    choices = choice_flips(reference_TE, port_TE, k, floor_rel_l2=0.01)
    (flip,) = choices.flips
    assert (flip.token, flip.lost, flip.gained, flip.margin) == (token, (taken,), (left,), 1.0)
    assert choices.real == (flip,)
    assert f"token {token} takes {left} for {taken}" in choices.sentences()[1]


def test_near_equal_scores_that_noise_exchanges_are_ties():
    reference_TE = torch.zeros(200, 8)
    reference_TE[:, 0], reference_TE[:, 1] = 5.0, 5.0001
    choices = choice_flips(reference_TE, noisy(reference_TE), 1, floor_rel_l2=NOISE / 1.7)
    assert 60 < len(choices.flips) < 140
    assert choices.real == ()
    assert choices.sentences()[0].endswith("0 not")


def test_what_flips_cost_is_their_part_of_the_kl():
    reference_TE = torch.eye(4)
    port_TE = reference_TE.clone()
    port_TE[2] = torch.tensor([0.0, 9.0, 0.0, 0.0])
    choices = choice_flips(reference_TE, port_TE, 1, floor_rel_l2=0.01, kl_T=[0.01, 0.02, 0.90, 0.07])
    assert choices.kl_of_flips == 0.90
    assert "90 % of the KL of the logits is at their tokens" in choices.sentences()[0]
    assert choice_flips(reference_TE, reference_TE, 1).sentences() == ()


def test_a_shift_of_all_scores_is_no_error():
    reference_TE = draw(5, 50, 16)
    choices = choice_flips(reference_TE, reference_TE + 7.0, 2)
    assert choices.flips == ()
    assert choices.noise < 1e-6


@pytest.mark.parametrize("k", [0, 4])
def test_choices_without_a_choice_are_refused(k):
    with pytest.raises(LayoutError, match="at least one is not"):
        choice_flips(torch.zeros(3, 4), torch.zeros(3, 4), k)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(LayoutError, match="not finite"):
        choice_flips(torch.zeros(3, 4), torch.full((3, 4), math.nan), 1)


# Caches


def keys(seed=0, heads=4, positions=96, head_dim=32):
    return draw(seed, heads, positions, head_dim)


@CHECKED
@given(SEEDS, st.integers(1, 5), st.integers(1, 130), st.sampled_from([16, 64]))
def test_a_cache_that_only_has_noise_fits_as_it_lies(seed, heads, positions, head_dim):
    reference_KTE = keys(seed, heads, positions, head_dim)
    reading = read_cache(reference_KTE, noisy(reference_KTE), floor_rel_l2=NOISE)
    assert (reading.cause, reading.sentences()) == ("", ())


@CHECKED
@given(SEEDS, st.integers(1, 5), st.integers(1, 100), st.sampled_from([None, 16]))
def test_either_rotary_order_is_recognised(seed, heads, positions, rotary_dim):
    one = keys(seed, heads, positions)
    other = unrotate_heads(one, rotary_dim)
    interleaved = read_cache(other, noisy(one), floor_rel_l2=NOISE, rotary_dim=rotary_dim)
    halves = read_cache(one, noisy(other), floor_rel_l2=NOISE, rotary_dim=rotary_dim)
    assert interleaved.cause == halves.cause == "rope_order"
    assert "interleaved (Meta's) where" in interleaved.says
    assert "split in halves (Hugging Face's) where" in halves.says
    assert max(interleaved.rel_l2_as_read, halves.rel_l2_as_read) < 2 * NOISE


@CHECKED
@given(SEEDS, st.permutations(range(4)))
def test_heads_in_another_order_are_named(seed, order):
    reference_KTE = keys(seed)
    reading = read_cache(reference_KTE, noisy(reference_KTE[list(order)]), floor_rel_l2=NOISE)
    moved = list(order) != [0, 1, 2, 3]
    assert reading.cause == ("heads_permuted" if moved else "")
    assert list(reading.order) == (list(order) if moved else [])


@CHECKED
@given(SEEDS, st.permutations(range(3)), st.integers(0, 31), st.sampled_from([32, 64]))
def test_blocks_in_another_order_are_named(seed, order, ragged, block):
    reference_KTE = keys(seed, positions=3 * block + ragged)
    places = [block * number + at for number in order for at in range(block)]
    places += range(3 * block, 3 * block + ragged)
    reading = read_cache(reference_KTE, noisy(reference_KTE[:, places]), floor_rel_l2=NOISE, block=block)
    moved = list(order) != [0, 1, 2]
    assert reading.cause == ("kv_block_swapped" if moved else "")
    in_place = [3] if ragged else []  # a last block that is shorter
    assert list(reading.order) == ([*order, *in_place] if moved else [])


def test_a_short_last_block_that_changed_places_is_named():
    reference_KTE = keys(positions=58)
    port_KTE = noisy(
        torch.cat(
            (
                reference_KTE[:, 32:],
                torch.zeros(reference_KTE.shape[0], 6, reference_KTE.shape[2]),
                reference_KTE[:, :26],
            ),
            1,
        )
    )
    reading = read_cache(reference_KTE, port_KTE, floor_rel_l2=NOISE, block=32)
    assert reading.cause == "kv_block_swapped"
    assert list(reading.order) == [1, 0]


def test_a_block_written_twice_is_named():
    reference_KTE = keys()
    port_KTE = noisy(reference_KTE)
    port_KTE[:, 64:96] = port_KTE[:, 0:32]
    reading = read_cache(reference_KTE, port_KTE, floor_rel_l2=NOISE)
    assert (reading.cause, reading.order) == ("kv_position", (0, 1, 0))
    assert reading.says.startswith("the port's block of 32 positions 2 is the reference's 0")


@pytest.mark.parametrize("shift", [-5, -1, 1, 17])
def test_positions_off_by_a_constant_are_named(shift):
    reference_KTE = keys()
    reading = read_cache(reference_KTE, noisy(reference_KTE.roll(shift, 1)), floor_rel_l2=NOISE)
    assert (reading.cause, reading.shift) == ("kv_position", shift)
    assert f"all positions are {abs(shift)} {'later' if shift > 0 else 'earlier'}" in reading.says


def test_a_head_of_garbage_is_unknown_and_located():
    reference_KTE = keys()
    port_KTE = noisy(reference_KTE)
    port_KTE[2] = keys(9)[2]
    reading = read_cache(reference_KTE, port_KTE, floor_rel_l2=NOISE)
    assert reading.cause == "unknown"
    assert "all of the error above the floor sits in head 2 of 4" in reading.sentences()
    assert float(reading.error_KT[2].min()) > 0.5
    assert float(reading.error_KT[[0, 1, 3]].max()) < 0.01


def test_a_cache_with_nan_fits_nothing():
    reference_KTE = keys()
    port_KTE = reference_KTE.clone()
    port_KTE[1, 5, 0] = math.nan
    reading = read_cache(reference_KTE, port_KTE)
    assert reading.cause == "unknown"
    assert "1 values are not finite in the port" in reading.sentences()[1]


def test_caches_of_two_shapes_are_refused():
    with pytest.raises(LayoutError, match="heads, positions"):
        read_cache(keys(), keys(positions=64))
