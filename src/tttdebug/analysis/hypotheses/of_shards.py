# SPDX-License-Identifier: Apache-2.0
"""Causes of weights that are cut up over devices: shards in another order, a sum over devices that is missing.

R tokens, C output channels, F channels before the last product, N shards.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, WeightsOf, rel_l2
from tttdebug.analysis.hypotheses.names import bias_of
from tttdebug.analysis.hypotheses.of_weights import edit
from tttdebug.analysis.hypotheses.orders import best_order, columns_in_order, in_words, likeness, rows_in_order
from tttdebug.analysis.mathematics.feed_forward import activation
from tttdebug.specs import AttentionSpec, FeedForwardSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench, LastProduct
    from tttdebug.analysis.module_call import ModuleCall

DEVICES = (2, 4, 8)


def missing_reduce(bench: Bench) -> Iterator[Change]:
    """One device's part of the last product alone, or all but one device's, the best of each number of devices."""
    last = bench.sketch.last_product
    if last is None:
        return
    for devices in _that_divide(last.inner_RF.shape[1], multiple_of=1):
        partial_NRC = _partial_sums(last, devices)
        rest_RC = bench.sketch.healthy_TC - sum(partial_NRC)  # the bias, if there is one
        whole_RC = bench.sketch.healthy_TC
        errors = [rel_l2(bench.sketch.port_TC, rest_RC + part_RC) for part_RC in partial_NRC]
        device = min(range(devices), key=errors.__getitem__)
        yield _kept(last.name, devices, [device], f"device {device}'s part of {devices} alone")
        if devices > 2:
            errors = [rel_l2(bench.sketch.port_TC, whole_RC - part_RC) for part_RC in partial_NRC]
            device = min(range(devices), key=errors.__getitem__)
            others = [i for i in range(devices) if i != device]
            yield _kept(last.name, devices, others, f"all parts but device {device}'s of {devices}")


def repeated_bias(bench: Bench) -> Iterator[Change]:
    """The last bias added by every device, before the sum over them."""
    last = bench.sketch.last_product
    if last is None or not bench.arithmetic.has(bias_of(last.name)):
        return
    bias = bias_of(last.name)
    for devices in DEVICES:
        yield Change(
            "reduce_doubled",
            f"the bias {bias} is added {devices} times, once by each device before the sum over them",
            Fix(f"add {bias} after the reduce, or on one device only"),
            weights=edit({bias: partial(operator.mul, devices)}),
        )


def order_before_last_product(bench: Bench) -> Iterator[Change]:
    """The columns of the last weight in another order of shards."""
    last = bench.sketch.last_product
    if last is None:
        return
    for devices in _that_divide(last.inner_RF.shape[1]):
        found_NX, meant_NX = _in_parts(bench.sketch.port_behind_RF, devices), _in_parts(last.inner_RF, devices)
        order = best_order(likeness(found_NX, meant_NX).T)
        if order is not None:
            yield _reordered(last.name, order, devices, "columns")


def order_of_gate_and_up(bench: Bench) -> Iterator[Change]:
    """The rows of gate or up in another order of shards, or those of a fused weight cut up as if they were not."""
    spec, last = bench.call.spec, bench.sketch.last_product
    if not isinstance(spec, FeedForwardSpec) or last is None or not spec.is_gated:
        return
    x_RD = bench.sketch.memory.asked_TD
    gate_RF, up_RF = (bench.sketch.arithmetic.linear(x_RD, f"w{i}", f"b{i}" if spec.bias else None) for i in (1, 3))
    gate_RF = activation(spec.nonlinearity)(gate_RF)
    for devices in _that_divide(last.inner_RF.shape[1]):
        for name, moved_RF, still_RF in (("w1", gate_RF, up_RF), ("w3", up_RF, gate_RF)):
            found_NX = _in_parts(bench.sketch.port_behind_RF * still_RF, devices)
            order = best_order(likeness(found_NX, _in_parts(moved_RF, devices)))
            if order is not None:
                yield _reordered(name, order, devices, "rows")
    yield from _cut_across(("w1", "w3"), (*_that_divide(spec.intermediate_dim, 1), spec.intermediate_dim))


def order_of_queries_keys_values(bench: Bench) -> Iterator[Change]:
    """The rows of a fused query, key and value weight cut up as if they were not fused, or the other way round."""
    spec = bench.call.spec
    if isinstance(spec, AttentionSpec):
        yield from _cut_across(("wq", "wk", "wv"), [n for n in DEVICES if spec.num_kv_heads % n == 0])


def order_of_inputs(bench: Bench) -> Iterator[Change]:
    """The halves of the input's channels exchanged, as after a gather in the wrong order."""
    inward = [name for name in ("wq", "wk", "wv", "w1", "w3") if bench.arithmetic.has(name)]
    if inward and bench.call.kind in ("attention", "feed_forward"):
        yield Change(
            "shard_order",
            "the halves of the input's channels are exchanged",
            Fix("gather the input over devices in their order"),
            weights=edit(dict.fromkeys(inward, columns_in_order((1, 0), 2))),
        )


def _that_divide(width: int, multiple_of: int = 8) -> list[int]:
    return [devices for devices in DEVICES if width % (devices * multiple_of) == 0]


def _in_parts(values_RF: torch.Tensor, parts: int) -> torch.Tensor:
    return values_RF.unflatten(1, (parts, -1)).transpose(0, 1).flatten(1)


def _partial_sums(last: LastProduct, devices: int) -> list[torch.Tensor]:
    pieces = zip(last.inner_RF.chunk(devices, dim=1), last.weight_CF.chunk(devices, dim=1), strict=True)
    return [inner_RF @ weight_CF.T for inner_RF, weight_CF in pieces]


def _kept(name: str, devices: int, kept: Sequence[int], says: str) -> Change:
    def keep(weight: torch.Tensor) -> torch.Tensor:
        import torch

        pieces = weight.chunk(devices, dim=1)
        return torch.cat([piece if i in kept else piece * 0.0 for i, piece in enumerate(pieces)], dim=1)

    return Change(
        "reduce_missing",
        f"the output is {says}: the sum over {devices} devices after {name} is missing",
        Fix(f"all-reduce the output of {name} over {devices} devices"),
        weights=edit({name: keep}),
    )


def _reordered(name: str, order: Sequence[int], devices: int, along: str) -> Change:
    reorder = rows_in_order(order, devices) if along == "rows" else columns_in_order(order, devices)
    edits: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {name: reorder}
    if along == "rows":
        edits[bias_of(name)] = reorder
    return Change(
        "shard_order",
        f"the {devices} shards of {name}'s {along} are in another order: {in_words(order)}",
        Fix(f"put the {along} of {name} on the devices in their own order"),
        weights=edit(edits),
    )


def _cut_across(names: Sequence[str], shards: Sequence[int]) -> Iterator[Change]:
    """A fused weight whose rows are interleaved by shard but read one weight after the other, or the reverse."""
    for count in shards:
        for interleaved in (True, False):
            one = f"interleaved in {count} shards" if count > 1 else "side by side"
            says = f"{one} but read one after the other" if interleaved else f"one after the other but read {one}"
            yield Change(
                "shard_order",
                f"the rows of {', '.join(names)} lie {says}",
                Fix(f"cut the fused weight of {', '.join(names)} as it is joined, shard by shard"),
                weights=_fused_otherwise(tuple(names), count, interleaved),
            )


def _fused_otherwise(names: tuple[str, ...], shards: int, interleaved: bool) -> WeightsOf:
    def change(weights: Mapping[str, torch.Tensor], call: ModuleCall) -> Mapping[str, torch.Tensor]:
        import torch

        changed = dict(weights)
        for group in (names, tuple(bias_of(name) for name in names)):
            if all(name in weights for name in group):
                lengths = [weights[name].shape[0] for name in group]
                rows = torch.arange(sum(lengths)).split(lengths)
                by_shard = torch.cat(
                    [part for pieces in zip(*(r.chunk(shards) for r in rows), strict=True) for part in pieces]
                )
                order = by_shard if interleaved else by_shard.argsort()
                joined = torch.cat([weights[name] for name in group])[order]
                changed |= dict(zip(group, joined.split(lengths), strict=True))
        return changed

    return change
