# SPDX-License-Identifier: Apache-2.0
"""Faults of what a module gives: scaled, shifted, summed wrongly, in part wrong, in another order, not finite.

S tokens with padding, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tttdebug.faults import kinds
from tttdebug.faults.seen_as import change_output, on_host, run_as
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.attention_projections import AttentionProjections

if TYPE_CHECKING:
    import torch

BLOCK = 32
Change = Callable[["torch.Tensor"], "torch.Tensor"]


def _scaled(site: Site) -> None:
    factor = site.choose((0.25, 0.7, 0.9, 1.1, 1.5, 3.0, -1.0))
    change_output(site.module, lambda out: site.ttnn.multiply(out, factor))


def _doubled(site: Site) -> None:
    devices = site.choose((2.0, 4.0, 8.0))
    change_output(site.module, lambda out: site.ttnn.multiply(out, devices))


def _shifted(site: Site) -> None:
    shift = site.choose((-1.0, -0.3, 0.3, 1.0))
    change_output(site.module, lambda out: site.ttnn.add(out, shift))


def _last_weight(site: Site) -> tuple[Any, int]:
    """The weight whose product would be summed over devices, and its inner width."""
    weight = site.module.wo if isinstance(site.module, AttentionProjections) else site.module.w2
    return weight, weight.shape[-2]


def _sums_over_devices(site: Site) -> bool:
    return (kinds.projections(site) or kinds.network(site)) and _last_weight(site)[1] % (2 * BLOCK) == 0


def _one_shard_alone(site: Site) -> None:
    """The product of the first or second half of the inner dimension."""
    module, ttnn, second = site.module, site.ttnn, site.number(0, 1)

    def linear(x: Any, weight: Any, kernel: str, bias: Any = None, **others: Any) -> Any:
        if weight is not _last_weight(site)[0]:
            return type(module).linear(module, x, weight, kernel, bias, **others)
        inner = weight.shape[-2]
        rows = slice(second * inner // 2, (1 + second) * inner // 2)
        part = ttnn.slice(x, [0, 0, 0, rows.start], [1, 1, x.shape[-2], rows.stop])
        half = on_half(weight, rows)
        return type(module).linear(module, part, half, kernel, bias, **others)

    def on_half(weight: Any, rows: slice) -> Any:
        return on_host(ttnn, weight, lambda values: values[..., rows, :].contiguous())

    run_as(module, linear=linear)


def _columns(fill: Callable[[Site, torch.Tensor], torch.Tensor]) -> Callable[[Site], None]:
    """32 columns of the output changed."""

    def inject(site: Site) -> None:
        place = site.number(0, 10_000)

        def change(out_11SC: torch.Tensor) -> torch.Tensor:
            start = BLOCK * (place % max(1, out_11SC.shape[-1] // BLOCK))
            block = out_11SC[..., start : start + BLOCK]
            block.copy_(fill(site, block))
            return out_11SC

        change_output(site.module, lambda out: on_host(site.ttnn, out, change))

    return inject


def _garbage(site: Site, block: torch.Tensor) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(block.shape[-2])  # the same at each call of such a size
    return torch.randn(block.shape, generator=generator) * block.std() * 3.0


def _rows_garbage(site: Site) -> None:
    """The first tile of rows, which holds tokens in prefill and users in decode."""

    def change(out_11SC: torch.Tensor) -> torch.Tensor:
        rows = out_11SC[..., :BLOCK, :]
        rows.copy_(_garbage(site, rows))
        return out_11SC

    change_output(site.module, lambda out: on_host(site.ttnn, out, change))


def _channels_permuted(site: Site) -> None:
    step = site.choose((1, BLOCK, None))

    def change(out_11SC: torch.Tensor) -> torch.Tensor:
        return out_11SC.roll(step or out_11SC.shape[-1] // 2, -1)

    change_output(site.module, lambda out: on_host(site.ttnn, out, change))


def _tokens_permuted(site: Site) -> None:
    """Neighbours exchanged, or all moved on by one: in prefill, for a decode step has rows of users."""
    order = site.choose(("neighbours", "roll"))

    def change(out_11SC: torch.Tensor) -> torch.Tensor:
        if out_11SC.shape[-2] == BLOCK:
            return out_11SC
        if order == "roll":
            return out_11SC.roll(1, -2)
        return out_11SC.unflatten(-2, (-1, 2)).flip(-2).flatten(-3, -2)

    change_output(site.module, lambda out: on_host(site.ttnn, out, change))


def _element(value: float) -> Callable[[Site], None]:
    def inject(site: Site) -> None:
        place = site.number(0, 10_000)

        def change(out_11SC: torch.Tensor) -> torch.Tensor:
            out_11SC[..., 0, place % out_11SC.shape[-1]] = value
            return out_11SC

        change_output(site.module, lambda out: on_host(site.ttnn, out, change))

    return inject


def _overflow(site: Site) -> None:
    """A factor and its inverse, the product of which leaves bfloat16's range on the way."""
    ttnn = site.ttnn

    def change(out: Any) -> Any:
        for factor in (2.0**126, 4.0, 0.25, 2.0**-126):  # each of them a normal number
            out = ttnn.multiply(out, factor)
        return out

    change_output(site.module, change)


FAULTS: tuple[Fault, ...] = (
    fault("scaled", "code", "scaled", kinds.anything, _scaled),
    fault("offset", "code", "offset", kinds.anything, _shifted),
    fault("reduce_doubled", "code", "reduce_doubled", kinds.branch, _doubled),
    fault("reduce_missing", "code", "reduce_missing", _sums_over_devices, _one_shard_alone),
    fault("columns_zero", "code", "block_bad", kinds.anything, _columns(lambda site, block: block * 0.0)),
    fault("columns_garbage", "code", "block_bad", kinds.anything, _columns(_garbage)),
    fault("rows_garbage", "code", "block_bad", kinds.anything, _rows_garbage),
    fault("channels_permuted", "code", "channels_permuted shard_order", kinds.anything, _channels_permuted),
    fault("tokens_permuted", "code", "tokens_permuted", kinds.anything, _tokens_permuted),
    fault("nan_element", "numbers", "nonfinite", kinds.anything, _element(float("nan"))),
    fault("inf_element", "numbers", "nonfinite", kinds.anything, _element(float("inf"))),
    fault("overflow", "numbers", "nonfinite", kinds.anything, _overflow),
)
