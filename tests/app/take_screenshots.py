# SPDX-License-Identifier: Apache-2.0
"""A screenshot of every page, for the documentation, of a run and of a sound one beside it, both in one folder.

python tests/app/take_screenshots.py reports/one-head reports/sound docs
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dashboard_reader import Reader, served, window
from PIL import Image

PAGES = {
    "runs": "/",
    "overview": "/overview?run={run}",
    "layer": "/layer?run={run}",
    "module": "/module?run={run}",
    "cache": "/cache?run={run}",
    "tokens": "/tokens?run={run}",
    "precision": "/precision?run={run}",
    "compare": "/compare?run={run}&against={sound}",
}
HEIGHT = 2000
"""Of an image at most; longer pages are cut."""


def main(run: Path, sound: Path, out: Path) -> None:
    with (
        TemporaryDirectory() as folder,
        served(run.parent, Path(folder) / "log") as server,
        window() as context,
    ):
        reader = Reader(context.new_page(), server, Path(folder))
        for page, address in PAGES.items():
            reader.open(address.format(run=run.name, sound=sound.name))
            reader.keep(page)
            cut(reader.shots / f"{page}.png", out / f"dashboard-{page}.png")
        if reader.errors:
            sys.exit("\n".join(reader.errors))


def cut(screenshot: Path, path: Path) -> None:
    with Image.open(screenshot) as image:
        image.convert("RGB").crop((0, 0, image.width, min(image.height, HEIGHT))).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
