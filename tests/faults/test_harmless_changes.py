# SPDX-License-Identifier: Apache-2.0
"""A harmless change keeps every boundary within its gate, so that whoever blames it is wrong."""

import pytest
import torch

import tttdebug as td
from tttdebug.faults.harmless import HARMLESS
from tttdebug.faults.small_models import small_model


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(small_model("llama", 3))


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.name)
def test_no_gate_fails(change, reference):
    generator = torch.Generator().manual_seed(5)
    lengths = [change.tokens or 45, 39][: change.users]
    prompts = [torch.randint(3, 250, (length,), generator=generator).tolist() for length in lengths]
    port = change.build(reference, td.open_device("emulated", engine=change.engine), "accuracy")
    run = td.track(port, reference, prompts, decode_steps=2)
    failed = {record.boundary for record in run.failed}
    if "heads_permuted" in change.may_say:
        assert failed == {pair.boundary for pair in port.caches}
    else:
        assert not failed
    assert not run.manifest.skipped


def test_there_are_many():
    assert len({change.name for change in HARMLESS}) == len(HARMLESS) >= 15
