# SPDX-License-Identifier: Apache-2.0
"""Every cause that a finding may name, with the field's words for it. One table, so that nothing has two names."""

from __future__ import annotations

CAUSES: dict[str, str] = {
    # norms
    "norm_unit_offset": "the gain is used as w where the model means 1 + w, or the other way round",
    "norm_sum_for_mean": "squares are summed where their mean is meant",
    "norm_eps": "another epsilon",
    "norm_gain_missing": "the gain is not applied",
    "norm_mean_kept": "the mean is not subtracted, or is where it should not be",
    # weights
    "weight_transposed": "a weight is transposed",
    "weights_exchanged": "two weights of one layer have changed places",
    "weight_stale": "a weight of another layer is in its place",
    "weight_missing": "a weight is all zeros, or was never loaded",
    "weight_block_bad": "a block of rows or columns of a weight is wrong",
    "bias_missing": "a bias is not added",
    "shard_order": "the shards of a weight are in another order",
    "heads_permuted": "heads are in another order",
    "rope_order": "query and key channels are in the other rotary pair order",
    # values
    "scaled": "the output is a multiple of what it should be",
    "offset": "the output is shifted by a constant",
    "reduce_missing": "the sum over devices is missing: one shard's part alone is there",
    "reduce_doubled": "a sum over devices is made on values that are already summed",
    "residual_missing": "a residual is not added",
    "residual_doubled": "a residual is added twice",
    "block_bad": "a block of the output is wrong, the rest is right",
    "channels_permuted": "the output's channels are in another order",
    "tokens_permuted": "the output's tokens are in another order",
    "users_swapped": "users have changed places",
    # attention
    "attention_scale": "scores are multiplied by another scale",
    "gqa_repeat": "query heads read the wrong key/value head of their group",
    "rope_missing": "queries or keys are not turned by their positions",
    "rope_theta": "another rotary base",
    "rope_scaling": "another scaling of rotary frequencies, or none",
    "position_offset": "positions are off by a constant",
    "mask_missing": "queries see positions that come after them",
    "mask_wrong": "a query sees other positions than it should",
    "window": "a sliding window where none is meant, or of another width",
    "padding_keys": "the softmax runs over padding too",
    "head_norm_missing": "the norm of queries and keys is missing, or where none is meant",
    "softcap": "scores or logits are capped where they should not be, or the other way round",
    # feed-forward
    "activation": "another activation function",
    "routing": "tokens go to other experts, or with other shares",
    # state
    "kv_block_swapped": "blocks of the key/value cache have changed places",
    "kv_position": "keys and values are written to, or read from, another position",
    "kv_stale": "the cache holds keys or values of another prompt, layer or step",
    "state_leak": "a second call with the same input gives something else",
    "nondeterministic": "the same call gives other bits each time",
    # numbers
    "embedding_scale": "the embedding is not multiplied by its scale, or by another",
    "logits_scale": "the logits are not multiplied by their scale, or by another",
    "cast_low": "values are kept in a coarser number format than declared",
    "fidelity_low": "the product runs at a lower math fidelity than declared",
    "accumulation_low": "sums are kept in bfloat16 where fp32 is declared",
    "approximate_exp": "an approximate function runs where the accurate one is declared",
    "nonfinite": "values that are not finite arise here",
    "routing_flip": "a discrete choice falls the other way",
    "unknown": "no experiment explains it",
}
