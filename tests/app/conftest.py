# SPDX-License-Identifier: Apache-2.0
"""A served dashboard over sample runs, and a reader in front of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_runs
import torch
from dashboard_reader import Reader, Server
from playwright.sync_api import BrowserContext, sync_playwright

from tttdebug.reporting.dashboard import HOST, RUNS_VARIABLE, app_script, free_port, server_command, wait_until_healthy

BROWSER_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
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
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="session")
def server(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            server_command(port), env=os.environ | {RUNS_VARIABLE: str(runs)}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(process, port)
        yield Server(f"http://{HOST}:{port}", log)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """One window for all tests, so that Streamlit's scripts are loaded once."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "no Chromium: apt-get install -y --no-install-recommends chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*BROWSER_FLAGS, *sandbox])
        yield browser.new_context()
        browser.close()


@pytest.fixture
def reader(browser: BrowserContext, server: Server) -> Iterator[Reader]:
    """A reader with a fresh page; whatever went wrong in the browser or the server fails the test in the end."""
    reader = Reader(browser.new_page(), server)
    before = server.complaints()
    yield reader
    reader.page.close()
    assert not reader.errors
    assert server.complaints() == before
