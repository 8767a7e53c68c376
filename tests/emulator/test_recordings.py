# SPDX-License-Identifier: Apache-2.0
"""The engines give what the real ttnn gave: `exact` every bit, `fast` every bit where it can, else within bounds."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from tttdebug.emulator import open_device
from tttdebug.emulator.agreement import compare
from tttdebug.emulator.recordings import RECORDED_GRID, call, families, load_recordings, values_of

HERE = Path(__file__).parent
SUBSET = HERE / "data" / "recordings"
FULL = Path(os.environ.get("TTTDEBUG_GOLDEN", HERE.parents[1].parent / "shared" / "golden"))
WITHOUT_FULL = pytest.mark.skipif(
    not (FULL / "matmul.npz").exists(), reason="no folder of recordings; TTTDEBUG_GOLDEN names one"
)


@dataclass(frozen=True)
class Bound:
    """What a case must reach: least shares of equal bits and of values within 1 ulp, largest rms and slope error."""

    equal: float = 1.0
    near: float = 1.0
    rms: float = 0.0
    slope: float = 1e-12  # float64's own


EVERY_BIT = Bound()
SOFTMAX = Bound(equal=0.98, near=0.985, rms=1e-5, slope=1e-5)  # it differs below the normal range
MATMUL_FP32_DEST = Bound(equal=0.83, near=0.96, rms=0.0015, slope=0.0005)
MATMUL_FP32_OUTPUT = Bound(equal=0.0, near=0.0, rms=0.0005, slope=0.0005)
MATMUL_FP32_DEST_TO_BLOCKS = Bound(equal=0.97, near=0.97, rms=0.004, slope=0.0005)
ATTENTION_FP32_DEST = Bound(equal=0.77, near=0.91, rms=0.0025, slope=0.0003)
DECODE_FP32_DEST = Bound(equal=0.55, near=0.75, rms=0.006, slope=0.003)


def bound_of(recording):
    """What `fast` must reach: a bfloat16 Dest is computed to the bit, sums in an fp32 Dest are torch's."""
    attrs, kernel = recording.attrs, recording.attrs.get("compute_kernel_config")
    fp32_dest = bool(kernel and kernel["fp32_dest_acc_en"])
    if recording.op == "softmax":
        return SOFTMAX
    if recording.op == "scaled_dot_product_attention":
        return ATTENTION_FP32_DEST if fp32_dest else EVERY_BIT
    if recording.op == "scaled_dot_product_attention_decode":
        return DECODE_FP32_DEST if fp32_dest else EVERY_BIT
    if recording.family == "matmul" and fp32_dest:
        if attrs.get("dtype"):
            return MATMUL_FP32_OUTPUT if attrs["dtype"] == "float32" else MATMUL_FP32_DEST_TO_BLOCKS
        return MATMUL_FP32_DEST
    return EVERY_BIT


@cache
def recordings(folder, family):
    return {recording.name: recording for recording in load_recordings(folder, family)}


@cache
def device(engine):
    return open_device(engine, grid=RECORDED_GRID)


def cases(folder):
    return [(family, name) for family in families(folder) for name in recordings(folder, family)]


def check(recording, engine):
    agreement = compare(values_of(call(recording, device(engine)), recording), recording.output)
    bound = EVERY_BIT if engine == "exact" else bound_of(recording)
    assert agreement.equal >= bound.equal, agreement
    assert agreement.within_one_ulp >= bound.near, agreement
    assert agreement.rms <= bound.rms, agreement
    assert abs(agreement.bias) <= bound.slope, agreement


@pytest.mark.parametrize("engine", ["fast", "exact"])
@pytest.mark.parametrize(("family", "name"), cases(SUBSET))
def test_what_the_chip_gave(family, name, engine):
    check(recordings(SUBSET, family)[name], engine)


@WITHOUT_FULL
@pytest.mark.parametrize("engine", ["fast", "exact"])
@pytest.mark.parametrize("family", families(FULL))
def test_what_the_chip_gave_in_the_full_folder(family, engine):
    failures = {}
    for recording in recordings(FULL, family).values():
        try:
            check(recording, engine)
        except AssertionError as failure:
            failures[recording.name] = str(failure)
    assert not failures


def test_agreement_sees_one_wrong_bit():
    recorded = torch.randn(64).bfloat16()
    wrong = recorded.clone()
    wrong.view(torch.int16)[7] ^= 1
    agreement = compare(wrong, recorded)
    assert agreement.equal == pytest.approx(63 / 64)
    assert agreement.within_one_ulp == 1
    assert agreement.rms > 0
