# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report, light, dark and printed: python tests/reporting/photograph.py HTML OUT."""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "print": {"media": "print", "color_scheme": "dark"},
}


def main(report: Path, out: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1160, "height": 1000})
        page.goto(report.resolve().as_uri())
        for name, look in LOOKS.items():
            page.set_viewport_size({"width": 720 if name == "print" else 1160, "height": 1000})
            page.emulate_media(**look)
            page.screenshot(path=out / f"report-{name}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
