# SPDX-License-Identifier: Apache-2.0
"""Causes that show in where the output's values stand: channels or tokens in another order, blocks that are wrong.

T tokens, C output channels, N blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.bench import FEW_TOKENS
from tttdebug.analysis.hypotheses.hypothesis import Change, OutputOf, rel_l2
from tttdebug.analysis.hypotheses.orders import best_order, best_sources, in_words, likeness
from tttdebug.tracking.blocks import TILE, ranges

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

_WIDEST = 8192  # channels whose every pair is compared
_SAME = 0.9  # the cosine from which on a token's output is another's
_FOREIGN = 0.1  # of the tokens may hold what is no token's
_NARROWEST = 8  # channels of a shard
_COMPARED = 32  # tokens of which all logits are compared
_AT_MOST = 0.5  # of the blocks may be wrong for the rest to say anything
_STANDS_OUT = 4.0  # times the floor, the error of a block that is wrong


def channels(bench: Bench) -> Iterator[Change]:
    """The output's channels in another order: in a few large shards, in tiles, or one by one."""
    port_TC, meant_TC = _all_channels(bench)
    width = port_TC.shape[1]
    yield from _orders(bench, port_TC, meant_TC)
    if (shift := _best_roll(port_TC, meant_TC)) != 0:
        says = f"the output's channels have moved on by {shift}"
        yield _moved(bench, "channels_permuted", says, [(i - shift) % width for i in range(width)])


def _all_channels(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """The port's output and what it should be, [T, C]; of a narrowed call the whole, of some tokens."""
    whole = bench.call.whole
    if whole is None:
        return bench.port_TC, bench.healthy_TC
    width = min(whole.port_TC.shape[1], whole.reference_TC.shape[1])
    return whole.port_TC[:_COMPARED, :width].float(), whole.reference_TC[:_COMPARED, :width].float()


def _orders(bench: Bench, port_TC: torch.Tensor, meant_TC: torch.Tensor) -> Iterator[Change]:
    """Shards, tiles and channels in another order; of few tokens only shards, which are wide enough."""
    width = port_TC.shape[1]
    sizes = [n for n in (2, 4, 8) if width % (n * _NARROWEST) == 0]
    finer = [width // TILE, width] if width % TILE == 0 else [width]
    for parts in dict.fromkeys([*sizes, *(finer if len(port_TC) >= FEW_TOKENS else [])]):
        if parts == width > _WIDEST or parts == 1:
            continue
        order = best_order(likeness(_columns(port_TC, parts), _columns(meant_TC, parts)))
        if order is not None:
            unit = "channels" if parts == width else f"blocks of {width // parts} channels"
            says = f"the output's {parts} {unit} are in another order: {in_words(order)}"
            size = width // parts
            sources = [source * size + i for source in order for i in range(size)]
            yield _moved(bench, "shard_order" if parts in sizes else "channels_permuted", says, sources)


def _moved(bench: Bench, cause: str, says: str, sources: Sequence[int]) -> Change:
    """Each of all output channels from its source; of a narrowed head by the rows of its weight that give these."""
    import torch

    fix = Fix("bring the output's channels, or the last weight's rows, into their own order")
    source_C, whole, kept_C = torch.tensor(sources), bench.call.whole, bench.call.kept_C
    if whole is None or kept_C is None:
        return Change(cause, says, fix, output=_of(lambda out_TC: out_TC.index_select(1, source_C)))
    of_kept_C, full = source_C[kept_C], whole.weights
    moved = {name: weight[of_kept_C] for name, weight in full.items() if weight.shape[0] >= len(source_C)}
    return Change(cause, says, fix, weights=lambda weights, call: {**weights, **moved})


def tokens(bench: Bench) -> Iterator[Change]:
    """The output's tokens in another order, or some in the place of others, or of padding."""
    if bench.port_TC.shape[0] < 2 or not bench.has_all_tokens:
        return
    alike_TT = likeness(bench.port_TC, bench.healthy_TC)
    order, found_T = best_sources(alike_TT), alike_TT.amax(-1) > _SAME
    foreign = tuple(int(i) for i in (~found_T).nonzero())
    if order is None or len(foreign) > _FOREIGN * len(order):
        return
    moved = sum(source != token for token, source in enumerate(order) if token not in foreign)
    besides = f"; what {len(foreign)} hold is no token's of this call" if foreign else ""
    if moved > len(foreign):
        yield Change(
            "tokens_permuted",
            f"{moved} of {len(order)} tokens hold another token's output: {in_words(order)}{besides}",
            Fix("keep the tokens in their order: look at reshapes and transposes of the sequence"),
            output=_from_sources(order, foreign),
            fitted=len(foreign),
            of_tokens=True,
        )


def column_blocks(bench: Bench) -> Iterator[Change]:
    """Blocks of 32 channels that are wrong while the rest is right: zeros, a multiple, or anything."""
    yield from _blocks(bench, dim=1)


def token_blocks(bench: Bench) -> Iterator[Change]:
    """Blocks of 32 tokens that are wrong while the rest is right."""
    if bench.port_TC.shape[0] > TILE and bench.has_all_tokens:
        yield from _blocks(bench, dim=0)


def wrong_blocks(bench: Bench, dim: int) -> list[int]:
    """Where the blocks of 32 channels (dim 1) or tokens begin that are wrong; none unless all others are right."""
    import torch

    size = bench.port_TC.shape[dim]
    starts = list(range(0, size, TILE))
    pieces = zip(bench.port_TC.split(TILE, dim), bench.healthy_TC.split(TILE, dim), strict=True)
    wrong = [start for start, (port, meant) in zip(starts, pieces, strict=True) if _stands_out(bench, port, meant)]
    if not wrong or len(wrong) > _AT_MOST * len(starts):
        return []
    rest = torch.tensor([i for i in range(size) if i - i % TILE not in wrong])
    left = rel_l2(bench.port_TC.index_select(dim, rest), bench.healthy_TC.index_select(dim, rest))
    return wrong if left <= 1.5 * bench.floor else []


def _blocks(bench: Bench, dim: int) -> Iterator[Change]:
    import torch

    wrong, size = wrong_blocks(bench, dim), bench.port_TC.shape[dim]
    if not wrong:
        return
    indices = torch.cat([torch.arange(start, min(start + TILE, size)) for start in wrong])
    port, meant = bench.port_TC, bench.healthy_TC
    where = f"{'columns' if dim else 'tokens'} {_places(bench, wrong, dim)}"
    found, expected = port.index_select(dim, indices).double(), meant.index_select(dim, indices).double()
    factor = float((found * expected).sum() / expected.square().sum().clamp_min(1e-300))
    fix = Fix(f"look at what writes {where}: a tile, a core's block or a device's shard")
    if not bool(found.any()):
        yield Change("block_bad", f"{where} are zeros", fix, output=_scaled(indices, dim, 0.0), of_tokens=dim == 0)
    yield Change(
        "block_bad",
        f"{where} are {factor:.4g} times what they should be",
        fix,
        output=_scaled(indices, dim, factor),
        fitted=1,
        of_tokens=dim == 0,
    )
    yield Change(
        "block_bad",
        f"{where} are wrong, the rest is right: without them the error is at the floor",
        fix,
        output=_from_port(indices, dim),
        localises=True,
        of_tokens=True,
    )


def _stands_out(bench: Bench, port: torch.Tensor, meant: torch.Tensor) -> bool:
    return rel_l2(port, meant) > _STANDS_OUT * bench.floor


def _places(bench: Bench, starts: Sequence[int], dim: int) -> str:
    """Where blocks lie in all of the output."""
    kept_C, whole = bench.call.kept_C, bench.call.whole
    if dim == 0 or kept_C is None or whole is None:
        return ranges(starts, bench.port_TC.shape[dim])
    return ranges([int(kept_C[start]) for start in starts], whole.port_TC.shape[1])


def _best_roll(port_TC: torch.Tensor, meant_TC: torch.Tensor) -> int:
    """By how many channels the output has most likely moved on, all round."""
    import torch

    port_TF, meant_TF = torch.fft.rfft(port_TC), torch.fft.rfft(meant_TC)
    width = port_TC.shape[1]
    return int(torch.fft.irfft((port_TF * meant_TF.conj()).sum(0), n=width).argmax())


def _columns(values_TC: torch.Tensor, parts: int) -> torch.Tensor:
    return values_TC.unflatten(1, (parts, -1)).transpose(0, 1).flatten(1)


def _from_sources(order: Sequence[int], foreign: Sequence[int]) -> OutputOf:
    """Each token's output from its source; what no token gave stays as the port has it."""

    def moved(out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
        known = [source if source < len(out_TC) else i for i, source in enumerate(order[: len(out_TC)])]
        moved_TC = out_TC[[*known, *range(len(known), len(out_TC))]]
        there = [i for i in foreign if i < len(out_TC)]
        moved_TC[there] = call.port_TC.float()[there]
        return moved_TC

    return moved


def _of(reorder: Callable[[torch.Tensor], torch.Tensor]) -> OutputOf:
    return lambda out_TC, call: reorder(out_TC)


def _scaled(indices: torch.Tensor, dim: int, factor: float) -> OutputOf:
    def scaled(out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
        import torch

        factors = torch.ones(out_TC.shape[dim])
        factors[indices[indices < len(factors)]] = factor
        return out_TC * (factors if dim else factors[:, None])

    return scaled


def _from_port(indices: torch.Tensor, dim: int) -> OutputOf:
    def from_port(out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
        there = indices[indices < out_TC.shape[dim]]
        return out_TC.index_copy(dim, there, call.port_TC.float().index_select(dim, there))

    return from_port
