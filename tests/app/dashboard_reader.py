# SPDX-License-Identifier: Apache-2.0
"""A served dashboard, a browser window, and somebody who looks and notes what goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tttdebug.reporting.dashboard import HOST, RUNS_VARIABLE, free_port, server_command, wait_until_healthy

BROWSER_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MAIN = '[data-testid="stMain"]'
DRAWN = """() => {
    const charts = [...document.querySelectorAll('[data-testid="stVegaLiteChart"]')];
    const pending = document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]');
    return !pending && charts.every(chart => chart.querySelector('canvas, svg'));
}"""


@dataclass
class Server:
    """The running dashboard."""

    address: str
    log: Path
    process: int

    def complaints(self) -> str:
        """What the server has logged beside its start."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if re.search(r"error|warning|traceback|exception", line, re.IGNORECASE))


@contextmanager
def served(runs: Path, log: Path) -> Iterator[Server]:
    """The dashboard over a folder of runs, on a free port."""
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            server_command(port), env=os.environ | {RUNS_VARIABLE: str(runs)}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(process, port)
        yield Server(f"http://{HOST}:{port}", log, process.pid)
    finally:
        process.terminate()
        process.wait()


def chromium() -> str | None:
    """The system's Chromium."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def window() -> Iterator[BrowserContext]:
    """A window of the system's Chromium with a new profile."""
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*BROWSER_FLAGS, *sandbox])
        yield browser.new_context()
        browser.close()


@dataclass
class Reader:
    """Somebody who looks at the dashboard in a browser."""

    page: Page
    server: Server
    shots: Path
    errors: list[str] = field(default_factory=list)
    """Complaints of the console, uncaught errors, dialogs, and requests that leave this machine."""

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"page: {error}"))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._on_request)
        self.sit("light", 1280)

    def sit(self, scheme: Literal["light", "dark"], width: int) -> None:
        """In front of a window of this colour scheme and width."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 900})

    def open(self, path: str) -> None:
        self.page.goto(self.server.address + path)
        self.settle()

    def settle(self) -> None:
        """Wait until the script has run and its charts are drawn."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_function(DRAWN)

    def see(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    def title(self, text: str | re.Pattern[str]) -> None:
        """The page has this heading, to the letter, and has been drawn."""
        expect(self.page.get_by_role("heading", level=2)).to_have_text(text)
        self.settle()

    def chosen(self, label: str) -> str:
        return str(self.page.get_by_role("combobox", name=label).input_value())

    def choose(self, label: str, option: str) -> None:
        """Choose with the keyboard alone."""
        box = self.page.get_by_role("combobox", name=label)
        box.focus()
        box.fill(option)
        box.press("Enter")

    def click_in(self, key: str, x: float, y: float) -> None:
        self.page.locator(f".st-key-{key}").first.click(position={"x": x, "y": y})

    def keep(self, name: str) -> None:
        """A screenshot of the whole page, in `shots`."""
        self.settle()
        size = self.page.viewport_size
        assert size is not None
        height = self.page.locator(MAIN).evaluate("main => main.scrollHeight")
        self.page.set_viewport_size({"width": size["width"], "height": height})
        self.settle()
        self.page.screenshot(path=self.shots / f"{name}.png", animations="disabled")
        self.page.set_viewport_size(size)
        self.settle()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _probes_base_path(message.location.get("url", "")):
            self.errors.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != HOST:
            self.errors.append(f"leaves this machine: {request.url}")


def _probes_base_path(url: str) -> bool:
    """Streamlit's client looks for the server's path prefix when a link leads to an inner page; it then gets a 404."""
    return re.fullmatch(r"/\w+/_stcore/[\w-]+", urlsplit(url).path) is not None
