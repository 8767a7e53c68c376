# SPDX-License-Identifier: Apache-2.0
"""Pages of the dashboard run without a browser, and what stands on them."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from tttdebug.reporting.dashboard import app_script

Shown = Callable[..., AppTest]
"""Takes a folder of runs, the name of a page and the parts of its address, and gives the page."""


def page_at(name: str, address: dict[str, str]) -> AppTest:
    """A page of the app at an address."""
    app = AppTest.from_file(str(app_script()), default_timeout=60)
    for part, value in address.items():
        app.query_params[part] = value
    return app.switch_page(f"views/{name}.py").run()


def texts(app: AppTest) -> str:
    """All texts of a page."""
    return "\n".join(element.value for element in (*app.header, *app.markdown, *app.caption, *app.info))
