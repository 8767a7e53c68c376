# SPDX-License-Identifier: Apache-2.0
"""Faults of matrices: transposed, exchanged, stale, missing, in part wrong, or with parts in another order.

All change what lies on the device, in the format that the module declares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tttdebug.faults import kinds
from tttdebug.faults.placing import change_weight, place_again
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.placement import HeadLinear, HeadVector

if TYPE_CHECKING:
    import torch

BLOCK = 32


def _matrices(site: Site, condition: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> list[str]:
    """The matrices that the module itself keeps on the device."""
    if not kinds.keeps()(site):
        return []
    shapes, kept = site.module.shapes(), [name for names in site.module.places().values() for name in names]
    return [name for name in kept if len(shapes[name]) == 2 and condition(shapes[name])]


def _is_square(shape: tuple[int, ...]) -> bool:
    return shape[0] == shape[1]


def _is_wide(shape: tuple[int, ...]) -> bool:
    return min(shape) >= 2 * BLOCK


def _has(condition: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> kinds.Fits:
    return lambda site: bool(_matrices(site, condition))


def _transpose(site: Site) -> None:
    change_weight(site.module, site.choose(_matrices(site, _is_square)), lambda weight: weight.T)


def _exchange(first: str, second: str) -> Callable[[Site], None]:
    def inject(site: Site) -> None:
        module = site.module
        place_again(module, {first: module.weight(second), second: module.weight(first)})

    return inject


def _stale_matrix(site: Site) -> None:
    other = site.beside(site.choose(kinds.layers_alike(site)))
    name = site.choose(_matrices(site))
    place_again(site.module, {name: other.weight(name)})


def _stale_module(site: Site) -> None:
    other = site.beside(site.choose(kinds.layers_alike(site)))
    kept = [name for names in site.module.places().values() for name in names]
    place_again(site.module, {name: other.weight(name) for name in kept})


def _missing(site: Site) -> None:
    change_weight(site.module, site.choose(_matrices(site)), lambda weight: weight.zero_())


def _block(site: Site, fill: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change 32 rows (outputs) or columns (inputs) of one matrix."""
    name, dim = site.choose(_matrices(site, _is_wide)), site.number(0, 1)
    start = BLOCK * site.number(0, site.module.shapes()[name][dim] // BLOCK - 1)

    def change(weight: torch.Tensor) -> torch.Tensor:
        part = weight.narrow(dim, start, BLOCK)
        part.copy_(fill(part))
        return weight

    change_weight(site.module, name, change)


def _block_zero(site: Site) -> None:
    _block(site, lambda part: part * 0.0)


def _block_garbage(site: Site) -> None:
    import torch

    _block(site, lambda part: torch.randn(part.shape, generator=site.generator) * part.std() * 3.0)


def _shards(dim: int, *names: str) -> tuple[kinds.Fits, Callable[[Site], None]]:
    """Two shards of 2, 4 or 8 exchanged, along a dimension of one of these weights."""

    def counts(site: Site, name: str) -> list[int]:
        size = site.module.shapes()[name][dim]
        return [count for count in (2, 4, 8) if size % count == 0 and size // count >= 4]

    def fits(site: Site) -> bool:
        return any(name in _matrices(site) and counts(site, name) for name in names)

    def inject(site: Site) -> None:
        name = site.choose([name for name in names if name in _matrices(site) and counts(site, name)])
        count = site.choose(counts(site, name))
        order = list(range(count))
        first = site.number(0, count - 2)
        order[first], order[first + 1] = order[first + 1], order[first]
        change_weight(site.module, name, lambda weight: _reordered(weight, dim, order))

    return fits, inject


def _reordered(weight: torch.Tensor, dim: int, order: list[int]) -> torch.Tensor:
    import torch

    parts = weight.chunk(len(order), dim)
    return torch.cat([parts[place] for place in order], dim)


def _heads_rolled(part: str) -> tuple[kinds.Fits, Callable[[Site], None]]:
    """The heads of queries, keys or values moved on by one; with them their biases."""

    def heads(site: Site) -> int:
        return int(site.spec.num_heads if part == "q" else site.spec.num_kv_heads)

    def inject(site: Site) -> None:
        names = [f"w{part}", *([f"b{part}"] if site.spec.qkv_bias else [])]
        step = site.number(1, heads(site) - 1) * site.spec.head_dim
        place_again(site.module, {name: site.module.weight(name).roll(step, 0) for name in names})

    return lambda site: kinds.projections(site) and heads(site) > 1, inject


def _rotary_order(*parts: str) -> Callable[[Site], None]:
    """Rows as the reference has them, which the module would need in interleaved order."""

    def inject(site: Site) -> None:
        head, module = site.spec.head_dim, site.module
        layouts = {f"w{part}": HeadLinear(head) for part in parts}
        biases = {f"b{part}": HeadVector(head) for part in parts} if site.spec.qkv_bias else {}
        names = [*layouts, *biases]
        place_again(module, {name: module.weight(name) for name in names}, layouts={**layouts, **biases})

    return inject


_INNER, _OUTER = _shards(1, "wo", "w2"), _shards(0, "wo", "w2", "weight")
FAULTS: tuple[Fault, ...] = (
    fault("weight_transposed", "weights", "weight_transposed", _has(_is_square), _transpose),
    fault("gate_up_exchanged", "weights", "weights_exchanged", kinds.gated, _exchange("w1", "w3")),
    fault("keys_values_exchanged", "weights", "weights_exchanged", kinds.projections, _exchange("wk", "wv")),
    fault("weight_stale", "weights", "weight_stale", kinds.both(kinds.other_layers, _has()), _stale_matrix),
    fault("module_stale", "weights", "weight_stale", kinds.both(kinds.other_layers, kinds.keeps()), _stale_module),
    fault("weight_missing", "weights", "weight_missing", _has(), _missing),
    fault("weight_block_zero", "weights", "weight_block_bad", _has(_is_wide), _block_zero),
    fault("weight_block_garbage", "weights", "weight_block_bad", _has(_is_wide), _block_garbage),
    fault("shard_order_of_inputs", "weights", "shard_order", *_INNER),
    fault("shard_order_of_outputs", "weights", "shard_order channels_permuted", *_OUTER),
    fault("query_heads_permuted", "weights", "heads_permuted", *_heads_rolled("q")),
    fault("key_heads_permuted", "weights", "heads_permuted", *_heads_rolled("k")),
    fault("value_heads_permuted", "weights", "heads_permuted", *_heads_rolled("v")),
    fault("rope_order", "weights", "rope_order", kinds.turning, _rotary_order("q", "k")),
    fault("rope_order_of_queries", "weights", "rope_order", kinds.turning, _rotary_order("q")),
    fault("rope_order_of_keys", "weights", "rope_order", kinds.turning, _rotary_order("k")),
)
