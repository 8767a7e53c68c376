# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report, light, dark and printed: python tests/reporting/photograph.py HTML OUT."""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SCHEMES = ("light", "dark")


def main(report: Path, out: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": 1160, "height": 1000}, color_scheme=scheme)
            page.goto(report.resolve().as_uri())
            page.screenshot(path=out / f"report-{scheme}.png", full_page=True)
            page.screenshot(path=out / f"report-{scheme}-top.png")
        page.pdf(path=out / "report.pdf", format="A4")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
