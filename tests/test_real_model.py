# SPDX-License-Identifier: Apache-2.0
"""SmolLM2 with its real weights: the emulated chip errs as the real one does, and that is no fault of the port."""

import json
import math
from pathlib import Path

import pytest

import tttdebug as td
from tttdebug.references import load_reference

CHIP = json.loads((Path(__file__).parent / "data" / "chip_llama_errors.json").read_text())


@pytest.fixture(scope="module")
def reference():
    return load_reference("llama")


@pytest.fixture(scope="module", params=["accuracy", "performance"])
def run(request, reference):
    """One run a precision, on the grid that the recordings of the chip were made on."""
    port = td.build_model(reference, td.open_device("emulated", grid=(8, 9)), request.param)
    return td.track(port, reference, [CHIP["prompt"]], decode_steps=2)


def test_errors_are_as_large_as_the_real_chips(run, accuracy_gate):
    accuracy_gate.run(run)
    emulated = {record.boundary: record for record in run.records if record.phase == "prefill"}
    chip = CHIP[run.manifest.precision]
    assert len(chip) > 30
    ratios = {boundary: emulated[boundary].rel_l2 / error["rel_l2"] for boundary, error in chip.items()}
    assert min(ratios.values()) > 0.5, min(ratios, key=ratios.get)
    assert max(ratios.values()) < 1.5, max(ratios, key=ratios.get)
    typical = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    assert 0.9 < typical < 1.1
    slopes = {boundary: abs(emulated[boundary].slope - error["slope"]) for boundary, error in chip.items()}
    assert max(slopes.values()) < 0.03, max(slopes, key=slopes.get)


@pytest.mark.parametrize("precision", ["accuracy", "performance"])
def test_the_exact_engine_errs_as_the_real_chip_did(reference, precision):
    """Through the port's own modules: at every recorded boundary the error of the recording, to the digits it has."""
    port = td.build_model(reference, td.open_device("emulated", engine="exact", grid=(8, 9)), precision)
    run = td.track(port, reference, [CHIP["prompt"]])
    assert run.passed, [str(record.key) for record in run.failed]
    emulated = {record.boundary: record for record in run.records}
    for boundary, error in CHIP[precision].items():
        record = emulated[boundary]
        measured = {"rel_l2": record.rel_l2, "slope": record.slope, "pcc": record.pcc}
        assert measured == pytest.approx({name: error[name] for name in measured}, rel=1e-4), boundary


def test_gates_let_the_formats_errors_pass_as_floor(run):
    assert run.passed, [str(record.key) for record in run.failed]
    assert "floor" in set(run.frame["verdict"])


def test_bfloat16_is_nearer_than_bfloat8_and_passes(reference):
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    run = td.track(port, reference, [CHIP["prompt"]], decode_steps=2)
    assert run.passed
    assert run.records[-1].boundary == "logits"
    logits = next(record for record in run.records if record.boundary == "logits")
    assert logits.pcc > 0.999


@pytest.mark.parametrize("precision", ["accuracy", "performance"])
def test_gate_and_up_exchanged_in_one_layer_is_found_there(reference, precision):
    state = dict(reference.model.state_dict())
    gate, up = (f"model.layers.17.mlp.{name}_proj.weight" for name in ("gate", "up"))
    state[gate], state[up] = state[up], state[gate]
    port = td.build_model(reference, td.open_device("emulated"), precision, weights=state)
    run = td.track(port, reference, [CHIP["prompt"]])
    assert run.first_divergence().boundary == "L17.mlp"
    assert not any(record.failed for record in run.records if record.boundary < "L17.mlp" and record.boundary[0] == "L")
