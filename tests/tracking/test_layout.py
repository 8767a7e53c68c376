# SPDX-License-Identifier: Apache-2.0
"""Aligning layouts: every known step is named, values come through unchanged, and nothing is cut to fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.errors import LayoutError
from tttdebug.tracking.layout import align, unrotate_heads

TILE = 32


def rows(count: int, channels: int = 8) -> torch.Tensor:
    return torch.arange(count * channels, dtype=torch.float32).reshape(count, channels)


@given(st.integers(1, 300), st.sampled_from([32, 128]))
def test_a_padded_prompt_loses_its_padding_and_nothing_else(tokens, multiple):
    reference = rows(tokens)[None]
    padded = torch.nn.functional.pad(rows(tokens), (0, 0, 0, -tokens % multiple))[None, None]
    aligned = align(reference, padded)
    assert torch.equal(aligned.port_TC, rows(tokens))
    assert torch.equal(aligned.reference_TC, rows(tokens))
    assert any(step.startswith("unpad_tokens") for step in aligned.adapters) == (tokens % multiple != 0)


@given(st.integers(0, 31))
def test_decode_picks_the_row_of_its_user(user):
    aligned = align(torch.zeros(1, 1, 8), rows(32)[None, None], phase="decode", user=user)
    assert torch.equal(aligned.port_TC, rows(32)[user : user + 1])
    assert f"user_row {user} of 32" in aligned.adapters


def test_the_last_tile_of_a_long_prompt_is_compared_with_the_last_token_only():
    aligned = align(rows(70)[None], rows(96)[64:96][None, None])
    assert torch.equal(aligned.reference_TC, rows(70)[69:])
    assert torch.equal(aligned.port_TC, rows(70)[69:])
    assert "reference_last_token of 70" in aligned.adapters


def test_padded_channels_are_taken_off_by_a_named_step():
    aligned = align(rows(4, 50)[None], torch.nn.functional.pad(rows(4, 50), (0, 14))[None, None])
    assert torch.equal(aligned.port_TC, rows(4, 50))
    assert "unpad_channels 64→50" in aligned.adapters


@pytest.mark.parametrize("port_shape", [(1, 1, 31, 8), (1, 1, 40, 8), (1, 1, 32, 9), (1, 1, 32, 16), ()])
def test_a_shape_that_no_step_explains_is_refused_with_both_shapes(port_shape):
    with pytest.raises(LayoutError) as refusal:
        align(torch.zeros(1, 33, 8), torch.zeros(port_shape))
    assert str(tuple(port_shape)) in str(refusal.value)
    assert "(1, 33, 8)" in str(refusal.value)


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([2, 8, 64]))
def test_the_head_permutation_undoes_the_interleaving_of_weights(tokens, heads, head_dim):
    from tttdebug.modules.placement import interleave_heads

    weight = torch.randn(heads * head_dim, 5)
    x = torch.randn(tokens, 5)
    interleaved = (x @ interleave_heads(weight, head_dim, head_dim).T).reshape(tokens, heads, head_dim)
    assert torch.allclose(unrotate_heads(interleaved), (x @ weight.T).reshape(tokens, heads, head_dim), atol=1e-5)
