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
HEIGHT, COLOURS = 1700, 96
"""Of an image: longer pages are cut, and few colours keep it small."""


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
            made_small(reader.shots / f"{page}.png", out / f"dashboard-{page}.png")
        if reader.errors:
            sys.exit("\n".join(reader.errors))


def made_small(screenshot: Path, path: Path) -> None:
    with Image.open(screenshot) as image:
        cut = image.convert("RGB").crop((0, 0, image.width, min(image.height, HEIGHT)))
    cut.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
