# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every source of changes, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from tttdebug.analysis.hypotheses import (
    of_attention,
    of_cache,
    of_ends,
    of_feed_forward,
    of_heads,
    of_held_weights,
    of_layers,
    of_mixtures,
    of_norms,
    of_numbers,
    of_other_layers,
    of_output,
    of_places,
    of_rotation,
    of_shards,
    of_spans,
    of_weight_blocks,
    of_weights,
)

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.hypotheses.hypothesis import Change

Source: TypeAlias = "Callable[[Bench], Iterator[Change]]"

STAGES: tuple[tuple[Source, ...], ...] = (
    (
        of_held_weights.as_held,
        of_layers.residuals,
        of_output.doubled_reduce,
        of_norms.of_norm,
        of_ends.embedding,
        of_ends.head,
        of_feed_forward.of_activation,
        of_mixtures.of_router,
        of_mixtures.of_shared_expert,
        of_mixtures.of_experts,
        of_cache.step_position,
        of_cache.own_token,
        of_cache.behind_own_token,
        of_cache.past_positions,
        of_cache.past_blocks,
        of_cache.other_values,
        of_cache.copied_blocks,
        of_other_layers.cache_of_another,
        of_attention.mask,
        of_attention.head_norm,
        of_heads.repeat,
        of_rotation.order,
        of_rotation.positions,
        of_rotation.missing,
        of_weights.exchanged,
        of_weights.turned,
        of_weights.missing,
        of_attention.scale,
        of_attention.softcap,
        of_rotation.theta,
        of_rotation.scaling,
        of_rotation.turned_channels,
        of_attention.window,
        of_attention.padding,
        of_numbers.coarser_values,
        of_output.scale,
    ),
    (
        of_shards.missing_reduce,
        of_shards.repeated_bias,
        of_shards.order_before_last_product,
        of_shards.order_of_gate_and_up,
        of_shards.order_of_queries_keys_values,
        of_shards.order_of_inputs,
        of_heads.orders,
        of_heads.of_a_step,
        of_places.channels,
        of_places.tokens,
        of_output.slope_and_offset,
    ),
    (of_other_layers.of_other_layers,),
    (of_numbers.coarser_weights, of_numbers.lower_fidelity, of_numbers.attention_kernels, of_numbers.norm_kernel),
    (of_weight_blocks.before_last_product, of_weight_blocks.of_heads, of_weight_blocks.of_inputs),
    (
        of_numbers.lower_sums,
        of_spans.rows_of_last_product,
        of_places.column_blocks,
        of_places.token_blocks,
        of_weight_blocks.rows_of_last_product,
        of_spans.channels_before_last_product,
        of_spans.columns_of_last_product,
        of_norms.other_gain,
    ),
)
"""What is cheap and frequent comes first. A stage is tried where none before it reaches the floor; of two changes that
explain an error alike, the earlier is meant."""
