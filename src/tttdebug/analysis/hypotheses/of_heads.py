# SPDX-License-Identifier: Apache-2.0
"""Causes of an attention's error in which head goes with which.

R queries, S keys, H query heads, K key/value heads, G = H / K, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.bench import FEW_TOKENS
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.names import bias_of
from tttdebug.analysis.hypotheses.of_weights import edit
from tttdebug.analysis.hypotheses.orders import best_order, in_words, likeness, rows_in_order
from tttdebug.analysis.mathematics import AttentionSteps
from tttdebug.analysis.mathematics.attention import Heads, mix
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench


_MOST_HEADS = 33  # of more heads not every roll is tried


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


def of_a_step(bench: Bench) -> Iterator[Change]:
    """In a step, heads of queries, keys, values or of both in an order that a roll or an exchange makes.

    One token says too little of an order to find it, but enough to choose between the few likely ones.
    """
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec) or len(bench.call.port_TC) >= FEW_TOKENS:
        return
    yield from _likely_rows(bench, "query", spec.num_heads, ("wq",))
    for names in (("wk",), ("wv",), ("wk", "wv")):
        yield from _likely_rows(bench, "key/value", spec.num_kv_heads, names)


def _likely_rows(bench: Bench, kind: str, count: int, names: tuple[str, ...]) -> Iterator[Change]:
    """Rolls, exchanges of neighbours, and the reverse."""
    places = tuple(range(count))
    likely = {places[-shift:] + places[:-shift] for shift in range(1, min(count, _MOST_HEADS))}
    likely |= {places[::-1]} | {(*places[:i], i + 1, i, *places[i + 2 :]) for i in range(min(count, _MOST_HEADS) - 1)}
    for order in sorted(likely - {places}):
        yield from _rows(bench, kind, order, names)


def orders(bench: Bench) -> Iterator[Change]:
    """Heads in another order, found by what the port's output has in common with every head in every place."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec) or spec.num_heads == 1:
        return
    matching = _Matching(bench.sketch, spec)
    order = best_order(matching.of_outputs())
    if order is not None:
        yield Change(
            "heads_permuted",
            f"the query heads stand in another order before wo: {in_words(order)}",
            Fix("join the heads in their own order", "nlp_concat_heads"),
            steps={"head_order": order},
        )
    order = best_order(matching.of_queries())
    if order is not None:
        yield from _rows(bench, "query", order, ("wq",))
    if spec.num_kv_heads == 1:
        return
    of_keys_and_values = matching.of_keys_and_values()
    sources = _sources(of_keys_and_values, spec)
    if sources is not None:
        yield Change(
            "gqa_repeat",
            f"query heads read the key/value heads {in_words(sources)}",
            Fix(f"let query head h read key/value head h // {spec.queries_per_kv_head}"),
            steps={"kv_of_query": sources},
        )
    for names, likeness_HK in (
        (("wk", "wv"), of_keys_and_values),
        (("wk",), matching.of_keys()),
        (("wv",), matching.of_values()),
    ):
        by_group_KK = likeness_HK.unflatten(0, (spec.num_kv_heads, -1)).sum(1)
        order = best_order(by_group_KK)
        if order is not None:
            yield from _rows(bench, {"wk": "key", "wv": "value"}.get("".join(names), "key/value"), order, names)


def _sources(likeness_HK: torch.Tensor, spec: AttentionSpec) -> tuple[int, ...] | None:
    """The key/value head that each query head reads; None where whole groups read another, or each its own."""
    sources = tuple(int(i) for i in likeness_HK.argmax(-1))
    by_group = [
        set(sources[first : first + spec.queries_per_kv_head])
        for first in range(0, spec.num_heads, spec.queries_per_kv_head)
    ]
    return None if all(len(group) == 1 for group in by_group) else sources


class _Matching:
    """What the port's output has in common with heads that are mixed otherwise."""

    def __init__(self, bench: Bench, spec: AttentionSpec) -> None:
        self.bench, self.spec, self.heads = bench, spec, bench.heads
        self.port_HX = bench.port_behind_RF.unflatten(1, (spec.num_heads, -1)).transpose(0, 1).flatten(1)

    def of_outputs(self) -> torch.Tensor:
        """Of each place before the output projection with each query head, [H, H]."""
        return likeness(self.port_HX, self._mixed(self.heads))

    def of_queries(self) -> torch.Tensor:
        """Of each place with each head's queries on that place's keys and values, [H, H]."""
        count = self.spec.num_heads
        return self._over_shifts(
            count, lambda shift: replace(self.heads, queries_HRE=self.heads.queries_HRE.roll(-shift, 0)), group=1
        )

    def of_keys(self) -> torch.Tensor:
        """Of each query head with each head's keys, [H, K]."""
        return self._over_shifts(
            self.spec.num_kv_heads, lambda shift: replace(self.heads, keys_KSE=self.heads.keys_KSE.roll(-shift, 0))
        )

    def of_values(self) -> torch.Tensor:
        """Of each query head with each head's values, [H, K]."""
        return self._over_shifts(
            self.spec.num_kv_heads, lambda shift: replace(self.heads, values_KSE=self.heads.values_KSE.roll(-shift, 0))
        )

    def of_keys_and_values(self) -> torch.Tensor:
        """Of each query head with each key/value head, [H, K]."""
        return self._over_shifts(
            self.spec.num_kv_heads,
            lambda shift: replace(
                self.heads,
                keys_KSE=self.heads.keys_KSE.roll(-shift, 0),
                values_KSE=self.heads.values_KSE.roll(-shift, 0),
            ),
        )

    def _over_shifts(self, count: int, moved: Callable[[int], Heads], group: int | None = None) -> torch.Tensor:
        import torch

        group = group or self.spec.queries_per_kv_head
        heads_H = torch.arange(self.spec.num_heads)
        found_HN = torch.zeros(self.spec.num_heads, count)
        for shift in range(count):
            mixed_HX = self._mixed(moved(shift))
            cosine_H = torch.nn.functional.cosine_similarity(self.port_HX, mixed_HX, dim=-1)
            found_HN[heads_H, (heads_H // group + shift) % count] = cosine_H
        return found_HN

    def _mixed(self, heads: Heads) -> torch.Tensor:
        positions_R = self.bench.memory.asked(self.bench.call.positions_T)
        return mix(self.spec, self.bench.arithmetic, heads, positions_R, AttentionSteps()).flatten(1)


def _rows(bench: Bench, kind: str, order: tuple[int, ...], names: tuple[str, ...]) -> Iterator[Change]:
    """Heads in another order in those weights: with their biases, and without."""
    reorder, matrices = rows_in_order(order, len(order)), " and ".join(names)
    biases = {bias_of(name): reorder for name in names if bias_of(name) in bench.call.weights}
    for too, edits in ((", and of their biases,", biases), ("", {})):
        if biases or not too:
            yield Change(
                "heads_permuted",
                f"the {kind} heads of {matrices}{too} are in another order: {in_words(order)}",
                Fix(f"bring the heads of {matrices} into their own order when they are loaded"),
                weights=edit(dict.fromkeys(names, reorder) | edits),
            )
