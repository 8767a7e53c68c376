# SPDX-License-Identifier: Apache-2.0
"""How quick the dashboard is on a large run. Run: python benchmarks/dashboard.py FOLDER (where large_run.py wrote one)

Each page is opened in a browser, timed from the request until its heading is read and until its last chart is drawn:
once where the server has not shown it yet, once again. Then a choice is made on it: another call (one that the server
has not shown), layer or token, or a click in a tensor. In the end the server's greatest memory. Needs Chromium.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "app"))
from dashboard_reader import Reader, served, window


def choose(label: str, option: str, address: str) -> Callable[[Reader], float]:
    """An option that has been typed into a box is taken, until `address` says so; gives when."""

    def act(reader: Reader) -> float:
        box = reader.page.get_by_role("combobox", name=label)
        box.focus()
        box.fill(option)
        start = time.perf_counter()
        reader.page.keyboard.press("Enter")
        reader.page.wait_for_url(address)
        return start

    return act


def click(key: str, x: float, y: float, address: str) -> Callable[[Reader], float]:
    """A click in a chart, until `address` says where; gives when."""

    def act(reader: Reader) -> float:
        chart = reader.page.locator(f".st-key-{key}").first
        chart.scroll_into_view_if_needed()
        place = chart.bounding_box()
        assert place is not None
        start = time.perf_counter()
        reader.page.mouse.click(place["x"] + x, place["y"] + y)
        reader.page.wait_for_url(address)
        return start

    return act


CALL = choose("Call", "decode 7", "**step=7**")
PAGES: dict[str, tuple[str, Callable[[Reader], float] | None]] = {
    "runs": ("/", None),
    "overview": ("/overview?run={run}", CALL),
    "layer": ("/layer?run={run}&boundary={boundary}", CALL),
    "module": ("/module?run={run}&boundary={boundary}&phase=decode", CALL),
    "its tensors": ("/module?run={run}&boundary={boundary}", click("map-reference-whole", 120, 90, "**element=**")),
    "tokens": ("/tokens?run={run}", click("text", 250, 100, "**token=**")),
    "KV cache": ("/cache?run={run}", choose("Layer", "L40", "**boundary=L40**")),
    "precision": ("/precision?run={run}", CALL),
    "compare": ("/compare?run={run}&against={run}", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the large run")
    parser.add_argument("--boundary", default="L31.self_attn")
    run = parser.parse_args()
    table = Table("page", "heading, s", "all, s", "again: heading, s", "all, s", "a click, s")
    with tempfile.TemporaryDirectory() as scratch, window() as browser:
        shots = Path(scratch)
        with served(run.folder, shots / "log") as server:
            for name, (template, act) in PAGES.items():
                path = template.format(run=run.folder.name, boundary=run.boundary)
                reader = Reader(browser.new_page(), server, shots)
                times = [took for _ in range(2) for took in opened(reader, path)]
                table.add_row(name, *(f"{took:.2f}" for took in times), clicked(reader, act))
                reader.page.close()
            memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process}/status").read_text())[1])
    Console().print(table, f"the server's greatest memory: {memory / 1024:,.0f} MiB")


def opened(reader: Reader, path: str) -> tuple[float, float]:
    """Seconds until the page's heading is read, and until all is drawn."""
    start = time.perf_counter()
    reader.page.goto(reader.server.address + path, wait_until="commit")
    reader.page.get_by_role("heading", level=2).first.wait_for()
    heading = time.perf_counter() - start
    reader.settle()
    return heading, time.perf_counter() - start


def clicked(reader: Reader, act: Callable[[Reader], float] | None) -> str:
    """Seconds from a choice until all is drawn; empty where a page has none."""
    if act is None:
        return ""
    start = act(reader)
    reader.settle()
    return f"{time.perf_counter() - start:.2f}"


if __name__ == "__main__":
    main()
