# SPDX-License-Identifier: Apache-2.0
"""Gates: the field's thresholds, and verdicts that PCC alone would miss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.tracking.comparison import compare
from tttdebug.tracking.gates import default_gate, explained_by_floor, judge

REFERENCE = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("boundary", "phase", "dtypes", "pcc"),
    [
        ("embed", "prefill", (), 0.999),
        ("L07.input_norm", "prefill", ("bfloat16",), 0.999),
        ("L07.post_attn_norm", "decode", (), 0.998),
        ("L07.self_attn", "prefill", ("bfloat8_b",), 0.99),
        ("L07.self_attn", "decode", ("bfloat8_b",), 0.98),
        ("L07.mlp", "prefill", ("bfloat4_b", "bfloat8_b"), 0.98),
        ("L07.layer_out", "prefill", (), 0.99),
        ("final_norm", "prefill", (), 0.999),
        ("logits", "decode", ("bfloat8_b",), 0.90),
    ],
)
def test_default_gates_are_those_of_the_field(boundary, phase, dtypes, pcc):
    assert default_gate(boundary, phase, dtypes).pcc == pcc


@pytest.mark.parametrize(
    ("port", "floor", "verdict"),
    [
        (REFERENCE, 0.0, "ok"),
        (REFERENCE + 0.01 * NOISE, 0.001, "ok"),
        (REFERENCE + 0.3 * NOISE, 0.2, "floor"),
        (REFERENCE + 0.3 * NOISE, 0.05, "diverged"),
        (REFERENCE + 0.3 * NOISE, 0.21, "floor"),
        (REFERENCE + 0.9 * NOISE, 0.40, "diverged"),
        (2 * REFERENCE, 0.01, "diverged"),
        (REFERENCE + 0.3 * NOISE, float("nan"), "diverged"),
        (torch.where(NOISE > 3, float("nan"), REFERENCE), 10.0, "nonfinite"),
    ],
)
def test_verdicts(port, floor, verdict):
    assert judge(compare(REFERENCE, port), default_gate("L00.mlp"), floor).verdict == verdict


def test_one_massive_activation_that_shrinks_is_no_fault_of_scale():
    reference = REFERENCE.clone()
    reference[3, 5] = 20_000.0
    port = reference + 0.01 * NOISE
    port[3, 5] *= 0.95
    assert abs(compare(reference, port).slope - 0.95) < 0.001
    assert judge(compare(reference, port), default_gate("L00.mlp"), 0.001).verdict == "ok"
    assert judge(compare(reference, 0.95 * port), default_gate("L00.mlp"), 0.001).verdict == "diverged"


@given(st.floats(0, 2), st.integers(1, 500))
def test_a_floor_explains_itself_and_not_much_more_than_three_times_itself(floor, tokens):
    assert floor <= explained_by_floor(floor, tokens) <= min(5 * floor, 3 * floor + 0.03)


def test_a_few_tokens_are_judged_as_a_decode_step_is():
    assert default_gate("L07.self_attn", tokens=31) == default_gate("L07.self_attn", "decode")
    assert default_gate("L07.self_attn", tokens=32) == default_gate("L07.self_attn")
    assert explained_by_floor(0.4, tokens=31) == explained_by_floor(0.4, tokens=1) > explained_by_floor(0.4, tokens=32)


def test_a_doubled_output_has_a_perfect_pcc_and_fails_on_its_slope():
    comparison = compare(REFERENCE, 2 * REFERENCE)
    assert comparison.pcc == pytest.approx(1.0)
    assert "slope" in judge(comparison, default_gate("L00.mlp"), 0.01).missed[0]
