# SPDX-License-Identifier: Apache-2.0
"""The table of ops says what the code does, and the page says what the table does."""

from pathlib import Path

import pytest

from tttdebug.emulator import ttnn
from tttdebug.emulator.real_names import NotEmulatedError
from tttdebug.emulator.status import Status, as_markdown, op_statuses

PAGE = Path(__file__).parents[2] / "docs" / "emulator-ops.md"
STATUSES = op_statuses()


def named(path):
    owner = ttnn
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


@pytest.mark.parametrize("op", STATUSES, ids=lambda op: op.name)
def test_an_op_is_there_unless_the_table_calls_it_missing(op):
    function = named(op.name)
    if op.status is Status.MISSING:
        with pytest.raises(NotEmulatedError, match=rf"ttnn\.{op.name} is not emulated"):
            function()
    else:
        assert callable(function)
        assert "not emulated" not in repr(function)


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == as_markdown(), "write it anew: python -m tttdebug.emulator.status > docs/emulator-ops.md"
