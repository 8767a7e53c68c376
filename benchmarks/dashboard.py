# SPDX-License-Identifier: Apache-2.0
"""How quick the dashboard is on a large run. Run: python benchmarks/dashboard.py FOLDER (where large_run.py wrote one)

Each page is opened in a browser, timed from the request until its heading is read and until its last chart is drawn:
once where the server has not shown it yet, once again. Then a choice is made on it. In the end the server's greatest
memory. Needs Chromium.
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

PAGES = {
    "runs": "/",
    "overview": "/overview?run={run}",
    "overview, decode 100": "/overview?run={run}&phase=decode&step=100",
    "layer": "/layer?run={run}&boundary={boundary}",
    "module": "/module?run={run}&boundary={boundary}",
    "tokens": "/tokens?run={run}",
    "KV cache": "/cache?run={run}",
    "precision": "/precision?run={run}",
    "compare": "/compare?run={run}&against={run}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the large run")
    parser.add_argument("--boundary", default="L31.self_attn")
    run = parser.parse_args()
    paths = {name: path.format(run=run.folder.name, boundary=run.boundary) for name, path in PAGES.items()}
    table = Table("page", "heading, s", "all, s", "again: heading, s", "all, s", "a click, s")
    with tempfile.TemporaryDirectory() as scratch, window() as browser:
        shots = Path(scratch)
        with served(run.folder, shots / "log") as server:
            for name, path in paths.items():
                reader = Reader(browser.new_page(), server, shots)
                times = [took for _ in range(2) for took in opened(reader, path)]
                table.add_row(name, *(f"{took:.2f}" for took in times), clicked(reader))
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


def clicked(reader: Reader) -> str:
    """Seconds from choosing another call or measure to its last chart; empty where a page has no such choice."""
    choice = reader.page.get_by_role("combobox", name="Call")
    if not choice.count():
        return ""

    def choose() -> None:
        reader.choose("Call", "decode 7")
        reader.page.wait_for_url("**step=7**")
        reader.settle()

    return f"{seconds(choose):.2f}"


def seconds(work: Callable[..., None], *given: str) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
