# SPDX-License-Identifier: Apache-2.0
"""Every layout a port may give, alone and composed: align(adapted(x)) is x, bit by bit; a wrong shape is refused."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tttdebug.errors import LayoutError, PairingError
from tttdebug.tracking.head_order import unrotate_heads
from tttdebug.tracking.layout import align
from tttdebug.tracking.pairing import PairLayout

TILE = 32


def up(count, multiple):
    return -(-count // multiple) * multiple


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def interleaved(x_TC, head_dim):
    """A port's rotary order: the inverse of what align has to do."""
    x_TKE = x_TC.unflatten(-1, (-1, head_dim))
    return x_TKE.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2).flatten(-2)


def padded_rows(x_TC, rows):
    """Padding that is not zero, so that it would show."""
    return torch.cat([x_TC, torch.full((rows - len(x_TC), x_TC.shape[1]), 7.0)])


def padded_channels(x, channels, fill):
    return torch.cat([x, torch.full((*x.shape[:-1], channels - x.shape[-1]), fill)], dim=-1)


@dataclass(frozen=True)
class Adapted:
    """A port's output, what it is of the reference, and what the pair says."""

    reference: torch.Tensor
    port: torch.Tensor
    expected_TC: torch.Tensor
    layout: PairLayout = PairLayout()  # noqa: RUF009 (frozen)
    options: tuple = ()

    def aligned(self):
        return align(self.reference, self.port, layout=self.layout, **dict(self.options))


@st.composite
def adapted(draw):
    """Rows padded, folded or cut, after channels permuted, fused or padded, after leading ones: drawn one of each."""
    head_dim, heads = draw(st.sampled_from([4, 16, 32])), draw(st.integers(1, 3))
    tokens = draw(st.integers(1, 150))
    x_TC = noise(tokens, head_dim * heads)
    layout, port_TC = PairLayout(), x_TC
    if draw(st.booleans()):
        layout = PairLayout(head_order="interleaved", head_dim=head_dim)
        port_TC = interleaved(port_TC, head_dim)
    channels = draw(st.sampled_from(["as they are", "tile padded", "vocabulary padded", "fused"]))
    width = port_TC.shape[1]
    if channels == "tile padded":
        port_TC = padded_channels(port_TC, up(width, TILE), 3.0)
    elif channels == "vocabulary padded":
        fill = draw(st.sampled_from([0.0, float("-inf")]))
        port_TC = padded_channels(port_TC, up(width, TILE) + TILE * draw(st.integers(1, 4)), fill)
    elif channels == "fused":
        before, after = draw(st.integers(0, 40)), draw(st.integers(1, 40))
        port_TC = torch.cat([noise(tokens, before), port_TC, noise(tokens, after)], dim=1)
        layout = replace(layout, port_columns=(before, before + width))
    rows = draw(st.sampled_from(["whole", "tile padded", "128 padded", "last", "last tile", "several", "decode"]))
    reference, expected, options = x_TC[None], x_TC, ()
    if rows in ("tile padded", "128 padded"):
        port_TC = padded_rows(port_TC, up(tokens, TILE if rows == "tile padded" else 128))
    elif rows == "last":
        port_TC, expected = port_TC[-1:], x_TC[-1:]
    elif rows == "last tile" and tokens > TILE:
        start = (tokens - 1) // TILE * TILE
        port_TC, expected = padded_rows(port_TC[start:], TILE), x_TC[-1:]
    elif rows == "several":
        users = draw(st.integers(2, 4))
        user = draw(st.integers(0, users - 1))
        length = up(tokens, draw(st.sampled_from([1, TILE, 128])))
        others = [padded_rows(noise(tokens, port_TC.shape[1]) + 1, length) for _ in range(users)]
        if channels == "vocabulary padded":
            others = [torch.cat([other[:, :width], padded_rows(port_TC, length)[:, width:]], dim=1) for other in others]
            others = [torch.where(torch.arange(other.shape[1]) < width, other, fill) for other in others]
        others[user] = padded_rows(port_TC, length)
        if channels == "vocabulary padded":
            others[user][:, width:] = fill
        port_TC = torch.cat(others)
        options = (("user", user), ("users", users))
    elif rows == "decode":
        users = draw(st.integers(1, 32))
        user = draw(st.integers(0, users - 1))
        batch = torch.cat([port_TC[-1:].roll(shift, 0) + shift for shift in range(TILE)])
        batch[user] = port_TC[-1]
        if channels == "vocabulary padded":
            batch[:, width:] = fill
        port_TC, reference, expected = batch, x_TC[None, -1:], x_TC[-1:]
        options = (("user", user), ("phase", "decode"))
    if channels == "vocabulary padded":
        port_TC = torch.cat([port_TC[:, :width], torch.full_like(port_TC[:, width:], fill)], dim=1)
    ones = draw(st.sampled_from([(), (1,), (1, 1)]))
    return Adapted(reference, port_TC.reshape(*ones, *port_TC.shape), expected, layout, options)


@given(adapted())
def test_what_was_adapted_comes_back(case):
    aligned = case.aligned()
    assert torch.equal(aligned.port_TC, case.expected_TC)
    assert torch.equal(aligned.reference_TC, case.expected_TC)
    assert not aligned.faults


@given(adapted(), st.integers(1, 3))
def test_a_channel_too_many_is_refused_with_both_shapes(case, more):
    # a channel that no padding explains: its values differ and it fills no tile
    port = torch.cat([case.port, noise(*case.port.shape[:-1], more)], dim=-1)
    assume(case.layout.port_columns is None and port.shape[-1] != up(case.reference.shape[-1], TILE))
    with pytest.raises(LayoutError) as refusal:
        replace(case, port=port).aligned()
    assert str(tuple(port.shape)) in str(refusal.value)
    assert str(tuple(case.reference.shape)) in str(refusal.value)


@given(st.integers(1, 100), st.integers(2, 4), st.sampled_from([20, 32, 64]), st.booleans())
def test_heads_come_side_by_side_from_either_order_of_dimensions(tokens, heads, head_dim, reference_by_head):
    x_TKE = noise(tokens, heads, head_dim)
    port = padded_channels(x_TKE.transpose(0, 1)[None], up(head_dim, TILE), 5.0)
    port = torch.nn.functional.pad(port, (0, 0, 0, -tokens % TILE), value=9.0)
    reference = x_TKE.transpose(0, 1)[None] if reference_by_head else x_TKE[None]
    if tokens == heads:
        with pytest.raises(LayoutError, match="which dimension is which"):
            align(reference, port, tokens=tokens)
        return
    for truth in (reference, x_TKE.flatten(1)[None]):
        aligned = align(truth, port, tokens=tokens)
        assert torch.equal(aligned.port_TC, x_TKE.flatten(1))
        assert torch.equal(aligned.reference_TC, x_TKE.flatten(1))
        assert f"heads {heads} side by side" in aligned.adapters


@given(
    user=st.integers(0, 7),
    heads=st.integers(1, 5),
    head_dim=st.sampled_from([20, 24, 32, 64, 80]),
    pad=st.booleans(),
    reference_by_head=st.booleans(),
)
def test_a_decode_steps_heads_come_without_their_padding(user, heads, head_dim, pad, reference_by_head):
    x_BKE = noise(8, heads, head_dim)
    port = torch.nn.functional.pad(x_BKE, (0, -head_dim % TILE, 0, TILE - heads if pad else 0), value=9.0)[None]
    reference = x_BKE[user][None, :, None] if reference_by_head else x_BKE[user][None, None]
    layout = PairLayout(head_dim=head_dim)
    aligned = align(reference, port, phase="decode", user=user, tokens=1, layout=layout)
    assert torch.equal(aligned.port_TC, x_BKE[user].reshape(1, -1))
    if not pad and heads > 1:  # what the shapes say alone
        assert torch.equal(align(reference, port, phase="decode", user=user, tokens=1).port_TC, aligned.port_TC)


@given(st.integers(2, 4), st.integers(1, 70))
def test_a_references_own_batch_is_folded_as_the_ports(batch, tokens):
    x_BSC = noise(batch, tokens, 8)
    port = torch.nn.functional.pad(x_BSC, (0, 0, 0, -tokens % TILE), value=4.0).reshape(1, 1, -1, 8)
    assert torch.equal(align(x_BSC, port).port_TC, x_BSC.flatten(0, 1))


def test_the_values_decide_the_head_order_where_they_leave_no_doubt():
    truth = noise(40, 128)
    auto = PairLayout(head_order="auto", head_dim=32)
    port = interleaved(truth, 32) + 0.02 * noise(40, 128)
    aligned = align(truth[None], port[None, None], layout=auto)
    assert torch.equal(aligned.port_TC, unrotate_heads(port.unflatten(-1, (4, 32))).flatten(-2))
    assert any(step.startswith("unrotate_heads (rel_l2 0.0") for step in aligned.adapters)
    assert align(truth[None], truth[None, None], layout=auto).adapters == ("squeeze",)


@pytest.mark.parametrize("broken", ["noise", "half right", "nan"])
def test_values_that_fit_neither_order_are_compared_as_they_are(broken):
    truth = noise(40, 128)
    port = {
        "noise": -truth,
        "half right": interleaved(truth, 32) + 0.4 * truth.roll(1, 0),
        "nan": torch.full_like(truth, float("nan")),
    }[broken]
    aligned = align(truth[None], port[None, None], layout=PairLayout(head_order="auto", head_dim=32))
    assert torch.equal(aligned.port_TC.nan_to_num(7), port.nan_to_num(7))
    assert not any("unrotate" in step for step in aligned.adapters)


def test_columns_of_a_fused_reference_are_named():
    x = noise(5, 96)
    aligned = align(x[None], x[None, None, :, 32:64], layout=PairLayout(reference_columns=(32, 64)))
    assert torch.equal(aligned.reference_TC, x[:, 32:64])
    assert "reference_columns 32:64 of 96" in aligned.adapters
    with pytest.raises(LayoutError, match="channels 64:128 of the reference's, which has 96"):
        align(x[None], x[None, None], layout=PairLayout(reference_columns=(64, 128)))


def test_padding_that_holds_values_is_no_padding():
    x = noise(4, 96)
    assert torch.equal(align(x[None, :, :20], padded_channels(x[:, :20], 96, 0.0)).port_TC, x[:, :20])
    with pytest.raises(LayoutError, match="all alike"):
        align(x[None, :, :20], x)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"head_order": "backwards"}, "give same, interleaved or auto"),
        ({"head_order": "auto"}, "needs head_dim"),
        ({"port_columns": (5, 5)}, "one past the last"),
    ],
)
def test_a_layout_that_says_nonsense_is_refused(layout, message):
    with pytest.raises(PairingError, match=message):
        PairLayout(**layout)
