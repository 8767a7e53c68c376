# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in blocks of 32 rows or columns of a weight: zeros, or a multiple of what they should be.

R tokens, F channels before the last product, N blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.of_places import wrong_blocks
from tttdebug.analysis.hypotheses.of_weights import edit
from tttdebug.tracking.blocks import TILE, ranges

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench

_INWARD = ("wq", "wk", "wv", "w1", "w3")
_COUNTS = 0.3  # of itself that a block's part must be off by
_WIDEST = 2048  # inputs of which every block of every weight is tried


def before_last_product(bench: Bench) -> Iterator[Change]:
    """Blocks of inner channels that count for nothing, or for a multiple, in the last product."""
    last = bench.sketch.last_product
    if last is None or last.inner_RF.shape[1] % TILE:
        return
    off_RC = bench.sketch.port_TC - bench.sketch.healthy_TC
    shares = {
        start: _share(off_RC, inner_RX @ weight_CX.T)
        for start, inner_RX, weight_CX in zip(
            range(0, last.inner_RF.shape[1], TILE),
            last.inner_RF.split(TILE, 1),
            last.weight_CF.split(TILE, 1),
            strict=True,
        )
    }
    wrong = [start for start, share in shares.items() if abs(share) > _COUNTS]
    if not wrong or len(wrong) > len(shares) // 2:
        return
    channels = f"columns {ranges(wrong, last.inner_RF.shape[1])} of {last.name}"
    mean = 1.0 + sum(shares[start] for start in wrong) / len(wrong)
    yield _blocks([last.name], wrong, 0.0, f"{channels}, or the rows before it that give these channels, are zeros")
    yield _blocks([last.name], wrong, mean, f"{channels} count {mean:.3g} times", fitted=1)


def rows_of_last_product(bench: Bench) -> Iterator[Change]:
    """Rows of the last weight that are zeros: without a bias that looks like zeros in the output."""
    last, wrong = bench.last_product, wrong_blocks(bench, dim=1)
    if last is not None and wrong:
        says = f"rows {ranges(wrong, bench.port_TC.shape[1])} of {last.name} are zeros"
        yield _blocks([last.name], wrong, 0.0, says, along=0)


def of_heads(bench: Bench) -> Iterator[Change]:
    """A block of rows of the query, key or value weight that is zeros."""
    if bench.call.kind != "attention":
        return
    for name in ("wq", "wk", "wv"):
        rows = bench.call.weights[name].shape[0]
        for start in range(0, rows, TILE):
            says = f"rows {ranges([start], rows)} of {name} are zeros"
            yield _blocks([name], [start], 0.0, says, along=0)


def of_inputs(bench: Bench) -> Iterator[Change]:
    """A block of columns of the weights that read the input, of all or of one, that is zeros."""
    names = [name for name in _INWARD if name in bench.call.weights]
    if not names or bench.call.kind not in ("attention", "feed_forward"):
        return
    width = bench.call.weights[names[0]].shape[1]
    for group in (names, *([name] for name in names if width <= _WIDEST)):
        for start in range(0, width, TILE):
            says = f"columns {ranges([start], width)} of {', '.join(group)} are zeros"
            yield _blocks(group, [start], 0.0, says)


def _share(off_RC: torch.Tensor, part_RC: torch.Tensor) -> float:
    return float((off_RC * part_RC).sum() / part_RC.square().sum().clamp_min(1e-30))


def _blocks(
    names: Sequence[str], starts: Sequence[int], factor: float, says: str, *, along: int = 1, fitted: int = 0
) -> Change:
    return Change(
        "weight_block_bad",
        says,
        Fix(f"look at how {', '.join(names)} is cut up and placed: {says}"),
        weights=edit(dict.fromkeys(names, _times(starts, factor, along))),
        fitted=fitted,
    )


def _times(starts: Sequence[int], factor: float, along: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def times(weight: torch.Tensor) -> torch.Tensor:
        changed = weight.clone()
        for start in starts:
            changed.narrow(along, start, min(TILE, weight.shape[along] - start)).mul_(factor)
        return changed

    return times
