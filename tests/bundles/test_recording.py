# SPDX-License-Identifier: Apache-2.0
"""Recorded programs: what a module of any family did in a call, they do again to the bit."""

import pytest
import torch

import tttdebug as td
from tttdebug.bundles.capture import WhichCall, capture
from tttdebug.bundles.case import case_of, seen
from tttdebug.bundles.replay import replay
from tttdebug.faults.small_models import small_model
from tttdebug.tracking.subject import subject_of


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "mixtral", "gpt2"])
def test_every_module_s_program_gives_the_module_s_output_again(family):
    reference = td.load_reference(small_model(family, 1))
    port = td.build_model(reference, td.open_device("emulated"))
    subject = subject_of(port, reference, [torch.arange(3, 40)], 1)
    first_layer_and_ends = [boundary for boundary in subject.port_modules if not boundary.startswith("L01")]
    for boundary in first_layer_and_ends:
        for phase in ("prefill", "decode"):
            captured = capture(subject, WhichCall(boundary, phase), lambda message, fraction: None)
            case = case_of(captured)
            again_TC = replay(case.program, captured.device).reshape(-1)[case.places_TC].float()
            assert torch.equal(again_TC, captured.floor_TC), boundary  # a sound port's floor is what it gave
            assert not seen(case, captured.device).fails, boundary
