# SPDX-License-Identifier: Apache-2.0
"""With torch beside the real ttnn: our modules' own Python, and whole comparisons, of which a mock cluster judges none.

TTTDEBUG_TTNN_WITH_TORCH=1 bash .ci/real-ttnn
"""

import pytest

import tttdebug as td

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def reference():
    from tiny_llamas import tiny_llama

    return td.load_reference(tiny_llama(3, num_attention_heads=2, num_key_value_heads=1))


def assert_nothing_was_judged(run):
    assert run.manifest.device["runs_on"] == "mock cluster"
    assert run.frame.empty
    assert run.manifest.compared == 0
    assert len(run.manifest.skipped) >= run.manifest.expected > 0
    assert {entry.reason for entry in run.manifest.skipped} == {"mock cluster"}
    assert not run.passed


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
def test_our_port_is_built_and_runs_and_is_not_judged(device, reference, precision):
    port = td.build_model(reference, device, precision)
    assert_nothing_was_judged(td.track(port, reference, [[5, 17, 3, 9] * 12], decode_steps=2))


def test_a_users_port_is_tracked_and_not_judged(device, reference):
    import drive_ttt_llama as users

    port = users.build(reference.model, device)
    drive = {"prefill": users.prefill, "decode": users.decode}
    assert_nothing_was_judged(td.track(port, reference, [[5, 17, 3, 9] * 12], decode_steps=2, **drive))
