# SPDX-License-Identifier: Apache-2.0
"""Narrow causes that a broader one, or none, once stood for: each is named in a whole run of a tiny model."""

import pytest
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.faults import inject
from tttdebug.faults.small_models import small_model

PROMPTS = [[(7 * i) % 120 + 3 for i in range(length)] for length in (50, 41)]


def of_family(family):
    return td.load_reference(small_model(family, 3))


def with_square_table():
    return td.load_reference(tiny_llama(5, vocab_size=128, hidden_size=128, head_dim=32, num_key_value_heads=2))


def with_a_wide_head():
    return td.load_reference(tiny_llama(5, vocab_size=12288, hidden_size=64))


#         reference, fault, cause, words of the sentence
HIDDEN = {
    "a transposed table": (with_square_table, "weight_transposed@embed", "weight_transposed", "transpose"),
    "logits in another order": (with_a_wide_head, "channels_permuted@logits", "channels_permuted", "moved on by"),
    "tokens of logits": (with_a_wide_head, "tokens_permuted@logits", "tokens_permuted", "another token's output"),
    "a block of logits": (with_a_wide_head, "columns_garbage@logits", "block_bad", "the rest is right"),
    "garbage in a weight": (with_square_table, "weight_block_garbage@L01.mlp", "weight_block_bad", "on the device"),
    "experts in another order": (lambda: of_family("mixtral"), "experts_permuted@L01.mlp", "routing", "expert"),
    "one slot for all users": (with_square_table, "users_in_one_slot@L01.self_attn", "kv_stale", "another user's"),
    "wrong from the second call on": (with_square_table, "second_call_differs@L00.mlp", "state_leak", "read again"),
    "behind the own token": (
        with_square_table,
        "padding_keys_in_decode@L01.self_attn",
        "mask_wrong",
        "behind its own token",
    ),
    "a step written ahead": (
        with_square_table,
        "kv_step_written_ahead@L01.self_attn",
        "kv_position",
        "written at position",
    ),
    "a window that ends too early": (
        lambda: of_family("gemma2"),
        "newest_key_unseen@L00.self_attn",
        "mask_wrong",
        "one too early",
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_it_is_named_first(name):
    make, what, cause, words = HIDDEN[name]
    reference = make()
    port = td.build_model(reference, td.open_device("emulated"), "accuracy")
    inject(port, what, seed=2)
    first = td.explain(td.track(port, reference, PROMPTS, decode_steps=2))[0]
    assert (first.boundary, first.cause) == (what.partition("@")[2], cause), first
    assert words in first.says


def test_experts_in_any_order_are_told():
    reference = of_family("mixtral")
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    experts = port.layers[0].feed_forward.experts
    port.layers[0].feed_forward.experts = [experts[expert] for expert in (2, 0, 3, 1)]
    (first, *_) = td.explain(td.track(port, reference, PROMPTS, decode_steps=2))
    assert (first.cause, first.says) == ("routing", "the experts are in another order: 2, 0, 3, 1")


def test_users_in_their_own_slots_are_no_fault():
    reference = with_square_table()
    port = td.build_model(reference, td.open_device("emulated"), "accuracy")
    assert not td.explain(td.track(port, reference, PROMPTS, decode_steps=2)).findings
