# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one browser, and threads that leave room: two spinning torches are thirty times slower."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is first imported
os.environ.setdefault("TTTDEBUG_CACHE_LIMIT", "0")  # no test leaves goldens in the user's cache, nor finds some there

import hypothesis
import pytest
import torch

pytest_plugins = ["pytester"]
# No test asserts a time: the first call of a compiled loop compiles it.
hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")
torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def browser():
    """One window of a real Chromium for all tests: Playwright takes one at a time, and scripts are loaded once."""
    from dashboard_reader import chromium, window

    if chromium() is None:
        reason = "no Chromium: apt-get install -y --no-install-recommends chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with window() as context:
        yield context
