# SPDX-License-Identifier: Apache-2.0
"""`emulator conformance` sees a wrong bit, lists what it cannot replay, and its exit code says what it found."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tttdebug.emulator import conformance_targets
from tttdebug.emulator.agreement import compare, pool
from tttdebug.emulator.conformance import replay_folder
from tttdebug.emulator.conformance_results import judge
from tttdebug.emulator.conformance_targets import EVERY_BIT, Target, family_of
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import BFLOAT8_B
from tttdebug.emulator.recordings import Recording, load_recordings
from typed_command import heard

SUBSET = Path(__file__).parent / "data" / "recordings"


@pytest.fixture
def tttdebug(capsys):
    """Runs the command in this process and gives its exit code, standard output and standard error."""
    return heard(capsys, "emulator", "conformance")


@pytest.fixture
def formats(tmp_path):
    """A folder with the family that every engine must give to the bit."""
    for name in ("formats.json", "formats.npz"):
        shutil.copy(SUBSET / name, tmp_path / name)
    return tmp_path


def change(folder, family, change_cases=lambda cases: None, change_arrays=lambda arrays: None):
    described = json.loads((folder / f"{family}.json").read_text())
    change_cases(described["cases"])
    (folder / f"{family}.json").write_text(json.dumps(described))
    with np.load(folder / f"{family}.npz") as loaded:
        arrays = dict(loaded)
    change_arrays(arrays)
    np.savez(folder / f"{family}.npz", **arrays)


def no_model():
    raise EmulatorError("weights: none here")


def silent(message, fraction):
    pass


def test_a_folder_that_holds_exits_0_and_says_how_much_it_compared(tttdebug, formats):
    code, out, _ = tttdebug(formats, "--engine", "fast")
    assert code == 0
    assert "packing and typecasts" in out
    assert "every bit" in out
    assert "holds" in out
    elements = sum(r.output.numel() for r in load_recordings(formats, "formats"))
    assert f"{elements:,}" in out


def test_one_wrong_bit_exits_1_and_names_the_case(tttdebug, formats, tmp_path):
    described = json.loads((formats / "formats.json").read_text())
    victim = described["cases"][3]

    def flip(arrays):
        changed = arrays[victim["outputs"]["out"]].copy()
        changed.reshape(-1).view(np.uint8)[0] ^= 1
        arrays["flipped"] = changed

    change(formats, "formats", lambda cases: cases[3]["outputs"].update(out="flipped"), flip)
    code, out, _ = tttdebug(formats, "--engine", "fast", "--csv", tmp_path / "cases.csv")
    assert code == 1
    assert "fails" in out
    assert f"formats/{victim['case']}" in out
    rows = list(csv.DictReader((tmp_path / "cases.csv").open()))
    assert [row["case"] for row in rows if row["holds"] == "no"] == [victim["case"]]
    assert len(rows) == len(described["cases"])


def test_nothing_to_replay_exits_2(tttdebug, tmp_path):
    code, _, err = tttdebug(tmp_path)
    assert code == 2
    assert str(tmp_path) in err
    assert tttdebug(tmp_path / "nowhere")[0] == 2


def test_an_unknown_engine_exits_2_and_lists_those_there_are(tttdebug, formats):
    code, _, err = tttdebug(formats, "--engine", "quick")
    assert code == 2
    assert "fast" in err


def test_a_damaged_family_exits_2_and_is_named(tttdebug, formats):
    (formats / "formats.npz").write_bytes(b"no archive")
    code, _, err = tttdebug(formats)
    assert code == 2
    assert "formats" in err


def test_unknown_ops_and_arguments_are_listed_and_do_not_hold(formats):
    def rename(cases):
        cases[0]["op"] = "fold_in_half"
        cases[-1]["attrs"]["sideways"] = True

    change(formats, "formats", rename)
    cases, not_run = replay_folder(formats, ["fast"], no_model, silent)
    reasons = {case.case: case.reason for case in cases if case.agreement is None}
    assert len(reasons) == 2
    assert any("fold_in_half" in reason for reason in reasons.values())
    assert any("sideways" in reason for reason in reasons.values())
    assert not any(family.holds for family in judge(cases, not_run, ["fast"]) if family.cases[0].case in reasons)


def test_every_output_of_a_call_is_a_case_of_its_own(tmp_path):
    x = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    halves = (x.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 patterns
    values, indices = torch.from_numpy(halves.view(np.int16)).view(torch.bfloat16).float().sort(-1, descending=True)
    best = (values[:, :32].contiguous().numpy().view(np.uint32) >> 16).astype(np.uint16)
    np.savez(tmp_path / "sorting.npz", x=halves, values=best, indices=indices[:, :32].numpy().astype(np.int32))
    case = {"case": "best", "op": "topk", "attrs": {"k": 32}, "inputs": {"x": "x"}}
    case["outputs"] = {"values": "values", "indices": "indices"}
    (tmp_path / "sorting.json").write_text(json.dumps({"cases": [case]}))
    cases, _ = replay_folder(tmp_path, ["exact"], no_model, silent)
    assert [result.case for result in cases] == ["best/values", "best/indices"]
    assert cases[0].holds
    assert cases[1].agreement is not None


def test_a_family_without_cases_is_nothing_to_replay(tttdebug, formats):
    described = json.loads((formats / "formats.json").read_text())
    (formats / "formats.json").write_text(json.dumps({**described, "cases": []}))
    code, _, err = tttdebug(formats)
    assert code == 2
    assert "no cases" in err


def test_a_call_that_fails_unforeseen_is_listed_with_its_kind(formats):
    change(formats, "formats", lambda cases: cases[0]["attrs"].update(dtype=["bfloat16"]))
    cases, not_run = replay_folder(formats, ["fast"], no_model, silent)
    failed = [case for case in cases if case.agreement is None]
    assert len(failed) == 1
    assert "not emulated" in failed[0].reason or "failed: " in failed[0].reason
    assert not judge(cases, not_run, ["fast"])[0].holds


def test_chains_without_weights_are_reported_as_not_run(formats):
    np.savez(formats / "llama_accuracy_S2_L1.npz", embed=np.zeros((2, 4), np.uint16))
    (formats / "llama_prompt.json").write_text(json.dumps({"ids": [1, 2]}))
    cases, not_run = replay_folder(formats, ["fast"], no_model, silent)
    assert "weights: none here" in not_run[0].reason
    verdict = judge(cases, not_run, ["fast"])[-1]
    assert (verdict.family, verdict.holds) == (conformance_targets.LLAMA, False)
    assert "weights: none here" in verdict.not_run


def test_every_shipped_recording_is_in_a_family_with_a_target():
    for path in SUBSET.glob("*.json"):
        for recording in load_recordings(SUBSET, path.stem):
            assert family_of(recording) != conformance_targets.OTHER, recording.name


def test_a_short_accumulation_and_an_fp32_one_are_judged_apart():
    x = torch.zeros(32, 32, dtype=torch.bfloat16)
    matmul = Recording("matmul", "mm", "matmul", {"compute_kernel_config": None}, {"a": x, "b": x}, x)
    assert family_of(matmul) == conformance_targets.MATMUL_BF16
    assert family_of(replace(matmul, attrs={"dtype": "float32"})) == conformance_targets.MATMUL_FP32
    config = {"math_fidelity": "LoFi", "fp32_dest_acc_en": True}
    assert family_of(replace(matmul, attrs={"compute_kernel_config": config})) == conformance_targets.MATMUL_FP32


def test_agreement_counts_signed_zeros_as_other_bits_and_no_distance():
    agreement = compare(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert (agreement.equal, agreement.greatest_ulp, agreement.rms) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 2.0**-23), (torch.bfloat16, 2.0**-7)])
def test_distance_is_counted_in_the_outputs_own_last_place(dtype, step):
    recorded = torch.ones(4, dtype=dtype)
    agreement = compare(torch.tensor([1, 1, 1, 1 + 3 * step], dtype=dtype), recorded)
    assert agreement.greatest_ulp == 3
    assert agreement.within_one_ulp == 0.75


def test_distance_in_a_block_format_is_counted_in_codes_of_the_group():
    recorded = BFLOAT8_B.quantise(torch.tensor([[1.5, *[0.25] * 15]]))
    moved = recorded.clone()
    moved[0, 3] += 2 * 2.0**-6  # the group's step: 1.5 is code 96 of 2^-6
    assert compare(moved, recorded, BFLOAT8_B).greatest_ulp == 2


def test_nan_on_one_side_is_infinitely_far():
    nan = torch.tensor([float("nan")])
    assert compare(nan, torch.ones(1)).greatest_ulp == float("inf")
    assert compare(nan, nan).equal == 1


def test_pooling_counts_elements_once():
    right, wrong = compare(torch.ones(30), torch.ones(30)), compare(torch.full((10,), 1.1), torch.ones(10))
    pooled = pool([right, wrong])
    assert (pooled.elements, pooled.equal) == (40, 0.75)
    assert pooled.rms == pytest.approx(0.1 * 0.25**0.5)
    assert pooled.bias == pytest.approx(0.025)


def test_targets_say_what_they_ask_and_what_is_missed():
    near = compare(torch.full((10,), 1.01), torch.ones(10))
    assert str(EVERY_BIT) == "every bit"
    assert "rms 1.000 %" in Target(rms=0.007, bias=0.001).misses(near)
    assert "bias 1.000 %" in Target(rms=0.007, bias=0.001).misses(near)
    assert not Target(rms=0.011, bias=0.011).misses(near)
    assert "1.20 of the chip's" in Target(error_ratio=0.15).misses(near, 1.2)
