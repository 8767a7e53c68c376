# SPDX-License-Identifier: Apache-2.0
"""Every block of Python on the documentation's pages runs, in order, and files that a page gives are written first."""

import re
from pathlib import Path

import pytest

from tttdebug.families import registry

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python(?: file=(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["specifying-a-module.md", "adding-a-family.md"])
def test_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_from_files", {})
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) > 2
    names = {"__name__": page}
    for file, code in blocks:
        if file:
            (tmp_path / file).write_text(code, encoding="utf-8")
        else:
            exec(compile(code, page, "exec"), names)
