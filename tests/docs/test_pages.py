# SPDX-License-Identifier: Apache-2.0
"""Every block of Python on the documentation's pages runs, in order, and files that a page gives are written first.

So does every command in a block that is marked `sh test`; where it does not exit with 0, the mark says `exits=1`.
"""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tttdebug import cli
from tttdebug.families import registry

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(?:python|sh test)(?: file=(\S+))?(?: exits=(\d))?\n(.*?)^```", re.MULTILINE | re.DOTALL)

PAGES = [
    "specifying-a-module.md",
    "adding-a-family.md",
    "tracking-your-model.md",
    "pairing.md",
    "ops-and-weights.md",
    "explaining.md",
    "bundles.md",
    "reports.md",
    "gating.md",
    "baselines.md",
    "golden-cache.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_from_files", {})
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) > 2
    names = {"__name__": page}
    for file, exits, code in blocks:
        if file:
            (tmp_path / file).write_text(code, encoding="utf-8")
        elif code.startswith("tttdebug "):
            monkeypatch.setattr(sys, "argv", shlex.split(code))
            with pytest.raises(SystemExit) as exit_:
                cli.main()
            assert (exit_.value.code or 0) == int(exits or 0)
        else:
            exec(compile(code, page, "exec"), names)
