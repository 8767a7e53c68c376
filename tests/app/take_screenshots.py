# SPDX-License-Identifier: Apache-2.0
"""Screenshots of every page on one run, for the documentation: python tests/app/take_screenshots.py RUN OUT."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dashboard_reader import Reader, served, window

PAGES = ("overview", "layer", "module", "tokens", "cache")


def main(run: Path, out: Path) -> None:
    with TemporaryDirectory() as logs, served(run, Path(logs) / "log") as server, window() as context:
        reader = Reader(context.new_page(), server, out)
        for page in PAGES:
            reader.open(f"/{page}?run={run.name}")
            reader.keep(page)
        if reader.errors:
            sys.exit("\n".join(reader.errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
