# SPDX-License-Identifier: Apache-2.0
"""The fast engine gives what the real ttnn gave: every bit where it can, else within bounds that a fault breaks."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from tttdebug.emulator import open_device
from tttdebug.emulator.agreement import compare
from tttdebug.emulator.recordings import load_recordings, replay

HERE = Path(__file__).parent
SUBSET = HERE / "data" / "recordings"
FULL = Path(os.environ.get("TTTDEBUG_GOLDEN", HERE.parents[1].parent / "shared" / "golden"))


@dataclass(frozen=True)
class Bound:
    """What a case must reach: least shares of equal bits and of values within 1 ulp, largest rms and slope error."""

    equal: float = 1.0
    near: float = 1.0
    rms: float = 0.0
    slope: float = 1.0


EXACT = Bound()
SOFTMAX = Bound(equal=0.98, near=0.985, rms=0.0005)
MATMUL_FP32_DEST = Bound(equal=0.83, near=0.96, rms=0.0015, slope=0.0005)
MATMUL_FP32_OUTPUT = Bound(equal=0.0, near=0.0, rms=0.0005, slope=0.0005)
MATMUL_FP32_DEST_TO_BLOCKS = Bound(equal=0.97, near=0.97, rms=0.004, slope=0.0005)
MATMUL_BFLOAT16_DEST = Bound(equal=0.0, near=0.0, rms=0.045, slope=0.035)
MATMUL_BFLOAT16_DEST_IN_SHORT_BLOCKS = Bound(equal=0.1, near=0.3, rms=0.016, slope=0.01)
ATTENTION_FP32_DEST = Bound(equal=0.77, near=0.91, rms=0.0025, slope=0.0003)
ATTENTION_BFLOAT16_DEST = Bound(equal=0.35, near=0.62, rms=0.007, slope=0.001)
DECODE_FP32_DEST = Bound(equal=0.55, near=0.75, rms=0.006, slope=0.003)
DECODE_BFLOAT16_DEST = Bound(equal=0.2, near=0.5, rms=0.011, slope=0.002)


def bound_of(recording):
    attrs, kernel = recording.attrs, recording.attrs.get("compute_kernel_config")
    fp32_dest = bool(kernel and kernel["fp32_dest_acc_en"])
    if recording.family == "unary":
        return {"erf": Bound(equal=0.7, near=0.99, rms=0.001), "log1p": Bound(equal=0.995, rms=0.0002)}.get(
            recording.op, EXACT
        )
    if recording.op == "softmax":
        return SOFTMAX
    if recording.op == "scaled_dot_product_attention":
        return ATTENTION_FP32_DEST if fp32_dest else ATTENTION_BFLOAT16_DEST
    if recording.op == "scaled_dot_product_attention_decode":
        return DECODE_FP32_DEST if fp32_dest else DECODE_BFLOAT16_DEST
    if recording.family == "matmul":
        if fp32_dest and attrs.get("dtype"):
            return MATMUL_FP32_OUTPUT if attrs["dtype"] == "float32" else MATMUL_FP32_DEST_TO_BLOCKS
        if fp32_dest:
            return MATMUL_FP32_DEST
        short = kernel is None or kernel["packer_l1_acc"]
        return MATMUL_BFLOAT16_DEST_IN_SHORT_BLOCKS if short else MATMUL_BFLOAT16_DEST
    return EXACT


@cache
def recordings(folder, family):
    return {recording.name: recording for recording in load_recordings(folder, family)}


def cases(folder):
    families = sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".npz").exists())
    return [(family, name) for family in families for name in recordings(folder, family)]


UNKNOWN = {"softplus", "sin", "cos"}  # not emulated


def check(recording):
    agreement, bound = (
        compare(replay(recording, open_device("fast", grid=(8, 9))), recording.output),
        bound_of(recording),
    )
    assert agreement.equal >= bound.equal, agreement
    assert agreement.within_one_ulp >= bound.near, agreement
    assert agreement.rms <= bound.rms, agreement
    assert abs(agreement.slope - 1) <= bound.slope, agreement


@pytest.mark.parametrize(("family", "name"), cases(SUBSET))
def test_what_the_chip_gave(family, name):
    check(recordings(SUBSET, family)[name])


@pytest.mark.skipif(not (FULL / "matmul.npz").exists(), reason="no folder of recordings; TTTDEBUG_GOLDEN names one")
@pytest.mark.parametrize(
    "family", ["formats", "unary", "binary", "reduce", "norm", "matmul", "attention", "transformer"]
)
def test_what_the_chip_gave_in_the_full_folder(family):
    failures = {}
    for recording in recordings(FULL, family).values():
        if recording.op in UNKNOWN:
            continue
        try:
            check(recording)
        except AssertionError as failure:
            failures[recording.name] = str(failure)
    assert not failures


@pytest.mark.skipif(not (FULL / "matmul.npz").exists(), reason="no folder of recordings; TTTDEBUG_GOLDEN names one")
def test_products_into_fp32_are_mostly_the_chips_bits():
    """Over all of them: at least 85 % of the bfloat16 results equal, 97 % within one unit in the last place."""
    equal, near, total = 0.0, 0.0, 0
    for recording in recordings(FULL, "matmul").values():
        if bound_of(recording) is MATMUL_FP32_DEST:
            agreement = compare(replay(recording, open_device("fast", grid=(8, 9))), recording.output)
            equal += agreement.equal * recording.output.numel()
            near += agreement.within_one_ulp * recording.output.numel()
            total += recording.output.numel()
    assert equal / total >= 0.85
    assert near / total >= 0.97


def test_agreement_sees_one_wrong_bit():
    recorded = torch.randn(64).bfloat16()
    wrong = recorded.clone()
    wrong.view(torch.int16)[7] ^= 1
    agreement = compare(wrong, recorded)
    assert agreement.equal == pytest.approx(63 / 64)
    assert agreement.within_one_ulp == 1
    assert agreement.rms > 0
