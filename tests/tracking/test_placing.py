# SPDX-License-Identifier: Apache-2.0
"""What is put into a port's tensor comes out of it again through `align`, and nothing else in it is touched."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.errors import LayoutError
from tttdebug.tracking.layout import align
from tttdebug.tracking.placing import put_into

SETTINGS = settings(deadline=None)


@SETTINGS
@given(st.integers(1, 70), st.sampled_from([32, 48, 96]), st.sampled_from([32, 128]), st.integers(0, 2**16))
def test_a_padded_prompt(tokens, channels, multiple, seed):
    generator = torch.Generator().manual_seed(seed)
    length = -(-tokens // multiple) * multiple
    held = torch.randn(1, 1, length, -(-channels // 32) * 32, generator=generator)
    reference = torch.randn(1, tokens, channels, generator=generator)
    placed = put_into(held, reference, phase="prefill")
    assert torch.equal(align(reference, placed, phase="prefill").port_TC, reference[0])
    assert torch.equal(placed[0, 0, tokens:], held[0, 0, tokens:])


@SETTINGS
@given(st.integers(0, 31), st.integers(0, 2**16))
def test_one_user_of_a_decode_step(user, seed):
    generator = torch.Generator().manual_seed(seed)
    held = torch.randn(1, 1, 32, 64, generator=generator)
    reference = torch.randn(1, 1, 64, generator=generator)
    placed = put_into(held, reference, phase="decode", user=user)
    others = torch.arange(32) != user
    assert torch.equal(placed[0, 0, user], reference[0, 0])
    assert torch.equal(placed[0, 0, others], held[0, 0, others])


@SETTINGS
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**16))
def test_heads(tokens, heads, seed):
    generator = torch.Generator().manual_seed(seed)
    held = torch.randn(1, heads, -(-tokens // 32) * 32, 32, generator=generator)
    reference = torch.randn(1, tokens, heads * 32, generator=generator)
    if tokens == heads:  # which dimension is which cannot be told
        return
    placed = put_into(held, reference, phase="prefill", tokens=tokens)
    assert torch.equal(align(reference, placed, phase="prefill", tokens=tokens).port_TC, reference[0])


def test_a_tensor_that_holds_the_last_token_only_cannot_take_all():
    with pytest.raises(LayoutError, match="holds a part"):
        put_into(torch.zeros(1, 1, 1, 64), torch.ones(1, 5, 64), phase="prefill")
