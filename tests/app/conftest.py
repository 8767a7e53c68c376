# SPDX-License-Identifier: Apache-2.0
"""A served dashboard over sample runs, and a reader in front of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cache_runs
import pytest
import sample_runs
import torch
from dashboard_reader import Reader, Server, served
from playwright.sync_api import BrowserContext
from shown_pages import Shown, page_at
from streamlit.testing.v1 import AppTest

from tttdebug.reporting.dashboard import RUNS_VARIABLE, app_script

ARTIFACTS = Path(__file__).parents[2] / "test-artifacts" / "dashboard"
sys.path.insert(0, str(app_script().parent))  # as Streamlit does for the app's own modules


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: two whole ones, and every kind that is not."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("reports")
    sample_runs.write_run(folder / sample_runs.BROKEN)
    sound = sample_runs.write_run(folder / sample_runs.SOUND, faulty=None)
    sample_runs.write_run(folder / "archive" / "two_users", users=2)
    sample_runs.write_unfinished_run(folder / "unfinished")
    sample_runs.save_damaged(sound, folder / "damaged")
    sample_runs.save_as_of_newer_schema(sound, folder / "newer")
    sample_runs.write_run_with_the_incomparable(folder / "incomparable")
    sample_runs.write_hostile_run(folder / "hostile", sample_runs.MARKUP)
    cache_runs.write_run_with_caches(folder / cache_runs.CACHES)
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="session")
def server(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(runs, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def reader(browser: BrowserContext, server: Server) -> Iterator[Reader]:
    """A reader with a fresh page; whatever went wrong in the browser or the server fails the test in the end."""
    reader = Reader(browser.new_page(), server, ARTIFACTS)
    before = server.complaints()
    yield reader
    reader.page.close()
    assert not reader.errors
    assert server.complaints() == before


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Shows a page of the runs in a folder, as the server does whose environment names that folder."""

    def show(folder: Path, page: str, **address: str) -> AppTest:
        monkeypatch.setenv(RUNS_VARIABLE, str(folder))
        return page_at(page, address)

    return show
