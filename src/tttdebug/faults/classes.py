# SPDX-License-Identifier: Apache-2.0
"""Classes of faults: those that a gate must catch wherever they have an effect, and those that it may let pass."""

from __future__ import annotations

from dataclasses import dataclass

from tttdebug.errors import FaultError


@dataclass(frozen=True)
class FaultClass:
    """Faults of one kind, by name. A gate that lets one pass whose error its number formats do not explain is too lax,
    where the class `must_be_caught`.
    """

    name: str
    must_be_caught: bool
    faults: tuple[str, ...]


def _class(name: str, faults: str, *, must_be_caught: bool = True) -> FaultClass:
    return FaultClass(name, must_be_caught, tuple(faults.split()))


CLASSES: tuple[FaultClass, ...] = (
    _class(
        "weights",
        "weight_transposed gate_up_exchanged keys_values_exchanged weight_stale module_stale weight_missing "
        "weight_block_zero weight_block_garbage qkv_bias_missing output_bias_missing network_bias_missing",
    ),
    _class(
        "order",
        "shard_order_of_inputs shard_order_of_outputs query_heads_permuted key_heads_permuted value_heads_permuted "
        "gqa_tiled channels_permuted tokens_permuted",
    ),
    _class(
        "norm",
        "norm_unit_offset norm_gain_missing norm_gain_of_other_norm norm_sum_for_mean norm_eps norm_mean_kept "
        "norm_mean_removed norm_bias_missing head_norms_missing",
    ),
    _class(
        "attention",
        "attention_scale mask_missing mask_ahead padding_keys padding_keys_in_decode newest_key_unseen window_added "
        "window_other attention_softcap",
    ),
    _class(
        "position",
        "rope_order rope_order_of_queries rope_order_of_keys rope_theta rope_scaling rope_missing queries_ahead "
        "decode_position_ahead decode_position_behind decode_position_stuck learned_positions_ahead "
        "learned_positions_missing",
    ),
    _class(
        "network",
        "gate_function gate_function_missing activation experts_per_token shares_not_normalised experts_permuted",
    ),
    _class(
        "residual",
        "attention_residual_missing network_residual_missing attention_residual_doubled network_residual_doubled",
    ),
    _class(
        "scale",
        "scaled offset reduce_doubled reduce_missing embedding_scale logit_scale logit_softcap",
    ),
    _class("block", "columns_zero columns_garbage rows_garbage noise"),
    _class("nonfinite", "nan_element inf_element overflow"),
    _class(
        "cache",
        "kv_blocks_swapped key_blocks_swapped kv_block_missing kv_of_another_prompt kv_written_late "
        "kv_step_not_written kv_step_written_ahead kv_step_written_behind kv_of_another_layer second_call_differs",
    ),
    _class("users", "users_in_one_slot users_swapped"),
    _class(
        "formats",
        "weight_coarser output_bfloat8 output_bfloat4 input_bfloat4 cache_coarser lofi attention_lofi norm_lofi "
        "bfloat16_sums attention_bfloat16_sums approximate_exponential approximate_gelu",
        must_be_caught=False,
    ),
)


def classes_named(names: tuple[str, ...]) -> tuple[FaultClass, ...]:
    """The classes of these names, all where there are none. Raises FaultError for a name that is no class's."""
    known = {each.name: each for each in CLASSES}
    for name in names:
        if name not in known:
            raise FaultError(f"there is no class of faults {name!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names or known))
