# SPDX-License-Identifier: Apache-2.0
"""A cache folder of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that tttdebug uses."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TTTDEBUG_CACHE", str(folder))
    return folder
