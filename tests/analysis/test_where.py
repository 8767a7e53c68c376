# SPDX-License-Identifier: Apache-2.0
"""A planted fault is found exactly where it is; noise of one size has no place; what is not finite is said first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.analysis.where import energy_of, locate
from tttdebug.errors import LayoutError

NOISE = 0.01
CHECKED = settings(max_examples=60, deadline=None)
SIZES = st.tuples(st.integers(2, 150), st.integers(2, 300))
SEEDS = st.integers(0, 2**16)


def noisy(tokens, channels, seed=0, noise=NOISE):
    """A reference, and a port that errs alike everywhere."""
    generator = torch.Generator().manual_seed(seed)
    reference_TC = torch.randn(tokens, channels, generator=generator)
    return reference_TC, reference_TC + noise * torch.randn(tokens, channels, generator=generator)


def with_fault(tokens, channels, rows, columns, seed=0, size=1.0):
    """The same, with an error of one size, of either sign, in some rows and columns."""
    reference_TC, port_TC = noisy(tokens, channels, seed)
    signs = torch.randn(port_TC[rows, columns].shape, generator=torch.Generator().manual_seed(seed + 1)).sign()
    port_TC[rows, columns] += size * signs
    return reference_TC, port_TC


def found(location):
    parts = (location.tokens, location.channels)
    return tuple(None if part is None else list(part.places) for part in parts)


EVERYWHERE = slice(None)


@CHECKED
@given(SIZES, SEEDS, st.sampled_from([float("nan"), NOISE, NOISE / 20]), st.sampled_from([0.0, 1e-4, NOISE, 1.0]))
def test_noise_of_one_size_has_no_place(size, seed, floor, noise):
    location = locate(*noisy(*size, seed, noise), floor_rel_l2=floor)
    assert location.sentences() == ()
    assert location.area == 1.0


@CHECKED
@given(st.integers(2, 100), st.integers(2, 9), st.sampled_from([32, 40, 64]), SEEDS, st.data())
def test_a_bad_head_is_named(tokens, heads, head_dim, seed, data):
    bad = data.draw(st.integers(0, heads - 1))
    columns = slice(bad * head_dim, (bad + 1) * head_dim)
    pair = with_fault(tokens, heads * head_dim, EVERYWHERE, columns, seed)
    location = locate(*pair, floor_rel_l2=NOISE, head_dim=head_dim)
    assert found(location) == (None, list(range(columns.start, columns.stop)))
    assert location.sentences() == (f"all of the error above the floor sits in head {bad} of {heads}",)


@CHECKED
@given(st.integers(3, 150), st.integers(16, 200), SEEDS, st.data())
def test_a_bad_token_is_found(tokens, channels, seed, data):
    bad = data.draw(st.integers(0, tokens - 1))
    location = locate(*with_fault(tokens, channels, bad, EVERYWHERE, seed), floor_rel_l2=NOISE)
    assert found(location) == ([bad], None)


@CHECKED
@given(st.integers(5, 150), st.integers(16, 200), SEEDS, st.data())
def test_positions_from_one_on_are_found_and_set_beside_the_constants(tokens, channels, seed, data):
    first = data.draw(st.integers(1, tokens - 1))
    constants = {"sliding window": first, "prompt length mod 32": tokens - first, "something else": 4096}
    pair = with_fault(tokens, channels, slice(first, None), EVERYWHERE, seed)
    location = locate(*pair, floor_rel_l2=NOISE, constants=constants)
    assert found(location) == (list(range(first, tokens)), None)
    said = {(match.what, match.constant) for match in location.matches}
    assert ("the first bad position", "sliding window") in said
    assert ("the number of bad positions", "prompt length mod 32") in said
    assert "something else" not in {constant for _, constant in said}


@CHECKED
@given(st.integers(1, 5), st.integers(2, 9), SEEDS, st.data())
def test_a_bad_tile_is_found(tile_rows, tile_columns, seed, data):
    row, column = (32 * data.draw(st.integers(0, count - 1)) for count in (tile_rows, tile_columns))
    inside = (slice(row, row + 32), slice(column, column + 32))
    location = locate(*with_fault(32 * tile_rows, 32 * tile_columns, *inside, seed), floor_rel_l2=NOISE)
    rows, columns = list(range(row, row + 32)), list(range(column, column + 32))
    assert found(location) == (rows if tile_rows > 1 else None, columns)


@CHECKED
@given(st.integers(33, 100), st.integers(33, 200), SEEDS, st.data())
def test_any_rectangle_is_found_to_the_element(tokens, channels, seed, data):
    rows, columns = (
        sorted(data.draw(st.lists(st.integers(0, extent), min_size=2, max_size=2, unique=True)))
        for extent in (tokens // 3, channels // 3)
    )
    pair = with_fault(tokens, channels, slice(*rows), slice(*columns), seed)
    assert found(locate(*pair, floor_rel_l2=NOISE)) == (list(range(*rows)), list(range(*columns)))


@pytest.mark.parametrize(
    ("rows", "columns", "options", "said"),
    [
        (EVERYWHERE, slice(64, 96), {}, "columns 64..95 (1 of 18 blocks of 32)"),
        (slice(32, 64), EVERYWHERE, {}, "positions 32..63 (1 of 4 blocks of 32)"),
        (slice(32, 64), EVERYWHERE, {"users": 4}, "user 1 of 4"),
        (slice(114, None), EVERYWHERE, {}, "the last 14 positions, 114..127"),
        (slice(20, None), EVERYWHERE, {"start": 100}, "positions from 120 on"),
        (EVERYWHERE, slice(1, None, 2), {}, "every second column (1, 3, 5, …)"),
        (EVERYWHERE, slice(144, 216), {"shards": 8}, "shard 2 of 8"),
        (EVERYWHERE, [3, 500], {}, "columns 3 and 500"),
        (
            slice(96, None),
            slice(512, 544),
            {},
            "the last 32 positions, 96..127 (1 of 4 blocks of 32) × col",
        ),
    ],
)
def test_a_place_is_called_as_an_engineer_would(rows, columns, options, said):
    (sentence,) = locate(*with_fault(128, 576, rows, columns), floor_rel_l2=NOISE, **options).sentences()
    assert sentence.startswith(f"all of the error above the floor sits in {said}")


def test_of_one_token_a_block_is_found_and_no_single_channel_is_blamed():
    assert found(locate(*with_fault(1, 576, EVERYWHERE, slice(64, 96)), floor_rel_l2=NOISE)) == (None, [*range(64, 96)])
    gains_C = torch.logspace(-2, 2, 576)[torch.randperm(576)]
    reference_TC, port_TC = (side * gains_C for side in noisy(1, 576))
    assert locate(reference_TC, port_TC, floor_rel_l2=NOISE).sentences() == ()


def test_a_block_that_the_floor_explains_is_no_fault():
    pair = with_fault(128, 576, EVERYWHERE, slice(64, 96), size=0.05)
    assert locate(*pair, floor_rel_l2=NOISE).channels.first == 64
    assert locate(*pair, floor_rel_l2=0.2).sentences() == ()


def test_massive_activations_neither_hide_a_fault_nor_make_one():
    reference_TC, port_TC = noisy(128, 576)
    for side in (reference_TC, port_TC):
        side[0, 77] += 3000.0
    port_TC[0, 77] *= 1.004  # bfloat16's own error there is more than all the rest
    assert locate(reference_TC, port_TC, floor_rel_l2=0.004).sentences() == ()
    port_TC[:, 320:384] = 0.0
    location = locate(reference_TC, port_TC, floor_rel_l2=0.004, head_dim=64)
    assert "head 5 of 9" in location.sentences()[0]


def test_an_error_that_grows_with_the_position_is_a_trend_and_no_block():
    reference_TC, noise_TC = noisy(128, 64)
    noise_TC -= reference_TC
    growing = reference_TC + noise_TC * torch.arange(128)[:, None]
    location = locate(reference_TC, growing, floor_rel_l2=NOISE)
    assert location.tokens is None
    assert location.trend.last_over_first > 3
    assert location.sentences()[0].startswith("the error grows with the position")
    assert location.sentences()[0].endswith("the first position is right")
    fading = locate(reference_TC, reference_TC + noise_TC * torch.arange(128).flip(0)[:, None], floor_rel_l2=NOISE)
    assert fading.trend.last_over_first < 1 / 3


def test_what_is_not_finite_is_said_first_and_hides_nothing_else():
    reference_TC, port_TC = with_fault(128, 96, slice(64, None), EVERYWHERE)
    port_TC[3:5, 7] = float("nan")
    port_TC[4, 7] = float("inf")
    location = locate(reference_TC, port_TC, floor_rel_l2=NOISE)
    first, second = location.sentences()
    assert first == "2 values are not finite in the port, 0 in the reference: in positions 3..4, column 7"
    assert "positions from 64 on" in second
    assert location.nonfinite.tokens.places == (3, 4)


def test_a_port_of_nothing_but_nan_has_no_other_place():
    reference_TC, _ = noisy(40, 32)
    location = locate(reference_TC, torch.full_like(reference_TC, torch.nan), floor_rel_l2=NOISE)
    assert location.nonfinite.port == 40 * 32
    assert location.tokens is None
    assert len(location.sentences()) == 1


@CHECKED
@given(SIZES, SEEDS)
def test_every_cut_holds_all_of_the_energy(size, seed):
    reference_TC, port_TC = noisy(*size, seed)
    energy = energy_of(reference_TC, port_TC)
    whole = float((port_TC.double() - reference_TC.double()).square().sum())
    cuts = [energy.row_blocks(), energy.row_blocks(1), energy.column_blocks(), energy.column_blocks(1)]
    for units in (*cuts, energy.faces()):
        assert float(units.error_U.sum()) == pytest.approx(whole)
        assert float(units.count_U.sum()) == size[0] * size[1]
    row, column = (min(extent - 1, 16) // 16 for extent in size)
    corner = (slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16))
    of_face = float((port_TC[corner].double() - reference_TC[corner].double()).square().sum())
    faces = energy.faces()
    assert float(faces.error_U.unflatten(0, faces.grid)[row, column]) == pytest.approx(of_face)


def test_rows_beyond_one_chunk_are_summed_like_the_others():
    reference_TC, port_TC = with_fault(700, 4096, slice(640, 672), slice(64, 96))
    location = locate(reference_TC, port_TC, floor_rel_l2=NOISE)
    assert found(location) == (list(range(640, 672)), list(range(64, 96)))


@pytest.mark.parametrize("options", [{"head_dim": 40}, {"users": 3}, {"shards": 5}])
def test_parts_that_do_not_divide_the_tensor_are_refused(options):
    with pytest.raises(LayoutError, match="give"):
        locate(*noisy(32, 96), floor_rel_l2=NOISE, **options)


def test_tensors_of_two_shapes_are_refused():
    with pytest.raises(LayoutError, match=r"\[32, 96\] and a port \[32, 64\]"):
        locate(torch.zeros(32, 96), torch.zeros(32, 64), floor_rel_l2=NOISE)
