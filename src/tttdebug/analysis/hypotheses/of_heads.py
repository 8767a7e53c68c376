# SPDX-License-Identifier: Apache-2.0
"""Causes of an attention's error in which head goes with which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench


def repeat(bench: Bench) -> Iterator[Change]:
    """Key/value heads repeated as a whole where each should be repeated in its place."""
    spec = bench.call.spec
    if isinstance(spec, AttentionSpec) and 1 < spec.num_kv_heads < spec.num_heads:
        kv_heads, group = spec.num_kv_heads, spec.queries_per_kv_head
        yield Change(
            "gqa_repeat",
            f"query head h reads key/value head h % {kv_heads} instead of h // {group}: the heads are tiled",
            Fix("repeat each key/value head in its place", f"torch.repeat_interleave(kv, {group}, dim=1)"),
            steps={"kv_of_query": "tiled"},
        )
