# SPDX-License-Identifier: Apache-2.0
"""Weights find their way back from the port's layout, and block formats share exponents along the right dimension."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.modules.hardware import HIFI4
from tttdebug.modules.placement import FromHeads, HeadLinear, HeadVector, Linear, Rows, Vector, WeightFormat
from tttdebug.modules.rms_norm import HeadGain, OffsetVector


@given(st.integers(1, 4), st.sampled_from([2, 24, 32, 64, 80]))
def test_every_layout_can_be_undone(heads, head_dim):
    weight = torch.randn(heads * head_dim, 7)
    turned = [0, head_dim // 2 // 2 * 2, head_dim]
    for layout in (Rows(), Linear(), *(HeadLinear(head_dim, rotary_dim) for rotary_dim in turned)):
        assert torch.equal(layout.to_reference(layout.to_port(weight)), weight)
    assert torch.equal(FromHeads(head_dim).to_reference(FromHeads(head_dim).to_port(weight.T)), weight.T)
    for rotary_dim in turned:
        bias, gain = HeadVector(head_dim, rotary_dim), HeadGain(head_dim, rotary_dim)
        assert torch.equal(bias.to_reference(bias.to_port(weight[:, 0])), weight[:, 0])
        assert torch.allclose(gain.to_reference(gain.to_port(weight[:, 0])), weight[:, 0])
    assert torch.equal(Vector().to_reference(Vector().to_port(weight[:, 0])), weight[:, 0])
    assert torch.allclose(OffsetVector().to_reference(OffsetVector().to_port(weight[:, 0])), weight[:, 0], atol=1e-6)


def test_heads_are_padded_to_whole_tiles_with_zeros():
    placed = HeadLinear(40, 16).to_port(torch.ones(3 * 40, 7))
    assert placed.shape == (7, 3 * 64)
    assert placed.view(7, 3, 64)[..., :40].eq(1).all()
    assert placed.view(7, 3, 64)[..., 40:].eq(0).all()
    assert FromHeads(40).to_port(torch.ones(7, 3 * 40)).view(3, 64, 7)[:, 40:].eq(0).all()
    assert HeadLinear(64).to_port(torch.ones(3 * 64, 7)).shape == (7, 3 * 64)


def test_a_block_is_sixteen_neighbours_along_the_output_dimension():
    weight = torch.full((32, 4), 2.0**-12)
    weight[3, 1] = 1.0  # makes its fifteen neighbours along the outputs too small for the shared exponent
    kept = WeightFormat(Linear(), "bfloat8_b").quantise(weight)
    assert kept[3, 1] == 1.0
    assert not kept[:16, 1][torch.arange(16) != 3].any()
    assert torch.equal(kept[16:], weight[16:])
    assert torch.equal(kept[:, [0, 2, 3]], weight[:, [0, 2, 3]])


@pytest.mark.parametrize("fidelity", ["LoFi", "HiFi2", "HiFi3", "HiFi4"])
def test_fidelities_below_hifi3_shrink_what_they_read(fidelity):
    x = torch.randn(64, 64).bfloat16()
    declared = WeightFormat(Linear(), "bfloat16", replace(HIFI4, math_fidelity=fidelity))
    read, kept = declared.read_input(x), declared.quantise(x)
    assert torch.equal(read, x) == (fidelity in ("HiFi3", "HiFi4"))
    assert torch.equal(kept, x.float()) == (fidelity != "LoFi")
    assert (read.abs() <= x.abs()).all()
    assert ((x - read).abs() <= x.abs() * 2**-6).all()
    assert ((x - kept).abs() <= x.abs() * 2**-4).all()
