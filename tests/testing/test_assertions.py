# SPDX-License-Identifier: Apache-2.0
"""What a developer reads when two tensors disagree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tttdebug.errors import DeviceError, LayoutError
from tttdebug.testing import assert_pcc, assert_rel_l2, assert_within_floor


@pytest.fixture
def reference() -> torch.Tensor:
    return torch.randn(128, 64)


def failure(assertion, *arguments, **options) -> str:
    with pytest.raises(AssertionError) as raised:
        assertion(*arguments, **options)
    assert raised.type is AssertionError
    return str(raised.value)


def test_equal_tensors_agree(reference):
    assert_pcc(reference, reference.clone(), 1.0)
    assert_rel_l2(reference, reference.clone(), 0.0)


def test_torch_and_numpy_mix(reference):
    assert_pcc(reference.numpy(), reference, 0.999)
    assert_pcc(reference.bfloat16(), reference.numpy()[:, ::-1][:, ::-1], 0.999)
    assert_rel_l2(np.float32(1.5), torch.tensor(1.5), 0.0)


def test_the_message_tells_the_limit_the_place_and_both_values(reference):
    port = reference.clone()
    port[37] = 3 * torch.randn(64)
    port[37, 5] = 77.0
    text = failure(assert_pcc, port, reference, 0.999, name="L11.mlp")
    first, *rest = text.splitlines()
    assert first.startswith("L11.mlp differs from its reference: pcc 0.")
    assert first.endswith("< 0.999")
    details = "\n".join(rest)
    assert "shape [128, 64]: 64 of 8,192 elements differ" in details
    assert "worst token 37 of 128 (pcc" in details
    assert f"at [37, 5]: 77, the reference holds {reference[37, 5]:.6g}" in details
    assert "non-finite: none on either side" in details


def test_a_doubled_tensor_says_so_at_once(reference):
    assert_pcc(2 * reference, reference, 0.9999)
    text = failure(assert_rel_l2, 2 * reference, reference, 0.05)
    assert text.splitlines()[0] == "actual differs from its reference: rel_l2 1 > 0.05"
    assert text.splitlines()[1].startswith("  it is the reference times 2.000: look for a scale")


def test_noise_is_not_called_a_scale(reference):
    assert "times" not in failure(assert_rel_l2, reference + 0.1 * torch.randn(128, 64), reference, 0.05)


def test_one_nan_fails_whatever_the_limit(reference):
    port = reference.clone()
    port[3, 4] = torch.nan
    text = failure(assert_pcc, port, reference, -1.0)
    assert "non-finite: 1 in the port, 0 in the reference" in text
    assert "greatest error nan at [3, 4]: nan, the reference holds" in text


def test_a_constant_reference_is_judged_by_its_error():
    ones = torch.ones(4, 8)
    assert_pcc(ones, ones)
    assert "constant reference" in failure(assert_pcc, 1.5 * ones, ones)


def test_nothing_is_never_equal_to_nothing():
    assert "nothing was compared" in failure(assert_pcc, torch.zeros(0, 4), torch.zeros(0, 4), -1.0)


def test_shapes_must_be_equal(reference):
    with pytest.raises(LayoutError, match=r"\[128, 64\].*\[64, 128\]"):
        assert_pcc(reference.T, reference)


def test_what_is_no_tensor_is_refused(reference):
    with pytest.raises(DeviceError, match="list"):
        assert_pcc([1.0, 2.0], reference)


def test_an_error_of_the_formats_is_within_their_floor_and_a_fault_is_not(reference):
    floor = reference.bfloat16()
    assert_within_floor(reference + 0.003 * torch.randn(128, 64) * reference, reference, floor)
    assert_within_floor(reference.bfloat16(), reference, 0.0017)
    text = failure(assert_within_floor, reference * 1.05, reference, floor, name="L03.mlp")
    assert text.splitlines()[0].startswith("L03.mlp (floor 0.00")
    assert "rel_l2 0.05 > 0.0" in text


@pytest.mark.parametrize("floor", [float("nan"), float("inf"), -0.1])
def test_a_floor_that_is_none_is_refused(reference, floor):
    with pytest.raises(ValueError, match="the floor of actual is"):
        assert_within_floor(reference, reference, floor)
