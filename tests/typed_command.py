# SPDX-License-Identifier: Apache-2.0
"""The command as its user types it, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tttdebug import cli

Typed = Callable[..., tuple[int, str, str]]
"""Takes the words after `tttdebug` and gives exit code, standard output and standard error."""

FORTY_TOKENS = " ".join(map(str, range(3, 43)))
"""A prompt for `--token-ids`."""


def typed(*words: object) -> int:
    """Runs `tttdebug` with these words and gives its exit code."""
    before = sys.argv
    sys.argv = ["tttdebug", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        sys.argv = before
    return int(exit_.value.code or 0)


def heard(capsys: pytest.CaptureFixture[str], *first: object) -> Typed:
    """`typed` with what was printed; the words start with `first`."""

    def run(*words: object) -> tuple[int, str, str]:
        code = typed(*first, *words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
