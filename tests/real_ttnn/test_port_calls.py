# SPDX-License-Identifier: Apache-2.0
"""Every call that our ports make on the emulator is taken by the real ttnn, whose results have the same form.

The calls were written down by call_recorder.py. Under a mock cluster each runs through all of the op's host code, from
its checks to the choice of its program; the result's shape, dtype, layout, memory layout and shards must be those that
the emulator gave. No kernel is compiled and no value is computed (see stand_in_compiler.py), so none is compared.
"""

import json
import os
from pathlib import Path

import pytest
from replay import Replay

CALLS = (
    json.loads((Path(os.environ["TTTDEBUG_REAL_TTNN_CASES"]) / "calls.json").read_text())
    if os.environ.get("TTTDEBUG_REAL_TTNN_CASES")
    else {"none": []}
)
FEWEST_CALLS = 50  # of any recorded port: fewer would mean that the recording broke


@pytest.mark.parametrize("port", CALLS)
def test_the_real_package_takes_every_call_of(ttnn, device, port):
    assert len(CALLS[port]) >= FEWEST_CALLS
    replay = Replay(ttnn, device)
    for number, call in enumerate(CALLS[port]):
        replay.make(call, number)
