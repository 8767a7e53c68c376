# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in a part of a weight whose values are anything: found by where in the last product the error lies.

R tokens, C output channels, F channels before the last product, X those of one part, Q an orthonormal basis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.bench import FEW_TOKENS
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.of_places import wrong_blocks
from tttdebug.specs import AttentionSpec
from tttdebug.tracking.blocks import TILE, ranges

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

_AT_MOST = 0.5  # of the output's channels, or of the tokens, may go into describing the error
_ALIKE = 1.25  # what leaves so little more, with fewer channels, is meant
_GROWS_ALIKE = 0.7  # the spread of norms, beside that of what is read, below which the one goes with the other


@dataclass(frozen=True)
class _Part:
    """Channels before the last product, and what of the weights before it gives them."""

    channels_X: torch.Tensor
    says: str


def rows_of_last_product(bench: Bench) -> Iterator[Change]:
    """Rows of the last weight that are anything: columns of the output that grow with what the product reads."""
    import torch

    last, wrong = bench.last_product, wrong_blocks(bench, dim=1)
    if last is None or not wrong or _is_sound(bench, last.name):
        return
    width = bench.port_TC.shape[1]
    columns_X = torch.cat([torch.arange(start, min(start + TILE, width)) for start in wrong])
    found_R = bench.port_TC[:, columns_X].norm(dim=1).clamp_min(1e-30).log()
    beside_R = found_R - last.inner_RF.norm(dim=1).clamp_min(1e-30).log()
    if len(found_R) > 1 and float(beside_R.std()) < _GROWS_ALIKE * float(found_R.std()):
        rows = f"rows {ranges(wrong, width)} of {last.name}"
        yield _described(f"{rows} are wrong: these columns of the output are, and grow with what it reads", columns_X)


def channels_before_last_product(bench: Bench) -> Iterator[Change]:
    """Channels before the last product that are anything, as rows of a weight before it would make them."""
    import torch

    last = bench.last_product
    if last is None or len(bench.port_TC) < FEW_TOKENS:
        return
    off_RC, bases = bench.port_TC - bench.healthy_TC, []
    for part in _parts_before(bench, last.inner_RF.shape[1]):
        if len(part.channels_X) <= _AT_MOST * last.weight_CF.shape[0]:
            basis_CQ, _ = torch.linalg.qr(last.weight_CF[:, part.channels_X])
            left = float((off_RC - (off_RC @ basis_CQ) @ basis_CQ.T).norm())
            freedom = 1.0 - len(part.channels_X) / last.weight_CF.shape[0]
            bases.append((left / math.sqrt(freedom), part, basis_CQ))
    if bases:
        least = min(left for left, _, _ in bases)
        enough = [entry for entry in bases if entry[0] <= _ALIKE * least]
        _, part, basis_CQ = min(enough, key=lambda entry: entry[2].shape[1])
        yield _localised(part.says, partial(_spanned_by_columns, basis_CQ))


def columns_of_last_product(bench: Bench) -> Iterator[Change]:
    """Columns of the last weight that are anything: an error that is a product with those channels alone."""
    import torch

    last = bench.last_product
    if last is None or _AT_MOST * len(bench.port_TC) < TILE or not bench.has_all_tokens:
        return
    off_RC, bases = bench.port_TC - bench.healthy_TC, []
    width = last.inner_RF.shape[1]
    for start in range(0, width, TILE):
        basis_RQ, _ = torch.linalg.qr(last.inner_RF[:, start : start + TILE])
        bases.append((float((off_RC - basis_RQ @ (basis_RQ.T @ off_RC)).norm()), start, basis_RQ))
    _, start, basis_RQ = min(bases, key=lambda entry: entry[0])
    says = f"columns {ranges([start], width)} of {last.name} are wrong"
    yield _localised(says, partial(_spanned_by_rows, basis_RQ))


def _is_sound(bench: Bench, name: str) -> bool:
    """Whether the device is known to hold this weight as it should."""
    return bench.call.held is not None and name not in bench.call.held


def _parts_before(bench: Bench, width: int) -> Iterator[_Part]:
    import torch

    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        gates = " or ".join(name for name in ("w1", "w3") if name in bench.call.weights)
        for start in range(0, width, TILE):
            where = ranges([start], width)
            yield _Part(torch.arange(start, min(start + TILE, width)), f"rows {where} of {gates} are wrong")
        return
    heads_HE = torch.arange(width).unflatten(0, (spec.num_heads, -1))
    groups_KGE = heads_HE.unflatten(0, (spec.num_kv_heads, -1))
    for kv_head in range(spec.num_kv_heads):
        for start in range(0, spec.head_dim, TILE):
            first = kv_head * spec.head_dim + start
            rows = ranges([first], spec.num_kv_heads * spec.head_dim)
            channels_X = groups_KGE[kv_head, :, start : start + TILE].flatten()
            yield _Part(channels_X, f"rows {rows} of wv are wrong")
        yield _Part(groups_KGE[kv_head].flatten(), f"rows of wk or wv that give key/value head {kv_head} are wrong")
    for head in range(spec.num_heads):
        yield _Part(heads_HE[head], f"rows of wq that give query head {head} are wrong")


def _localised(says: str, output: Callable[[torch.Tensor, ModuleCall], torch.Tensor]) -> Change:
    fix = Fix(f"look at how it is loaded, cut up and placed: {says}")
    return Change("weight_block_bad", f"{says}, the rest is right", fix, output=output, localises=True, of_tokens=True)


def _described(says: str, columns_X: torch.Tensor) -> Change:
    def from_port(out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
        return out_TC.index_copy(1, columns_X, call.port_TC.float()[:, columns_X])

    return _localised(says, from_port)


def _spanned_by_columns(basis_CQ: torch.Tensor, out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
    off_TC = call.port_TC.float() - out_TC
    return out_TC + (off_TC @ basis_CQ) @ basis_CQ.T


def _spanned_by_rows(basis_TQ: torch.Tensor, out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
    """Of another call nothing is said: its tokens are others."""
    if len(basis_TQ) != len(out_TC):
        return out_TC
    return out_TC + basis_TQ @ (basis_TQ.T @ (call.port_TC.float() - out_TC))
