# SPDX-License-Identifier: Apache-2.0
"""The real ttnn under a mock cluster: which tests it gets, and that in CI none of them can skip.

`bash .ci/real-ttnn` makes the environment and runs these, once with a cluster of one device and once of two. Elsewhere
they skip and say so: ttnn reads its environment variables once in a process, so a mock cluster and a card cannot both
be driven by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CASES = "TTTDEBUG_REAL_TTNN_CASES"
MOCK_CLUSTER = "TT_METAL_MOCK_CLUSTER_DESC_PATH"
WITH_TORCH = "TTTDEBUG_TTNN_WITH_TORCH"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    if not os.environ.get(CASES):
        return
    cluster = Path(os.environ[MOCK_CLUSTER]).stem
    other = [item for item in mine if (item.get_closest_marker("two_devices") is not None) != (cluster == "n300")]
    if not os.environ.get(WITH_TORCH):
        other += [item for item in mine if item.get_closest_marker("torch") and item not in other]
    config.hook.pytest_deselected(items=other)
    items[:] = [item for item in items if item not in other]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not os.environ.get(CASES):
        pytest.skip("needs the real ttnn under a mock cluster: bash .ci/real-ttnn")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a failed run, where the environment was made for these tests."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(CASES) and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def ttnn() -> Any:
    """The wheel itself; that it cannot be imported fails every test that asks for it."""
    import ttnn

    assert "site-packages" in (ttnn.__file__ or ""), f"ttnn comes from {ttnn.__file__}, which is no installed wheel"
    return ttnn


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder that write_cases.py filled."""
    return Path(os.environ[CASES])


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """One device of the mock cluster, opened as users open a card."""
    from tttdebug.backends import opened_device

    with opened_device("ttnn") as opened:
        yield opened


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """Both devices of the mock n300, with the fabric between them."""
    from tttdebug.backends import opened_device

    with opened_device("ttnn:N300", fabric_config="FABRIC_1D") as opened:
        yield opened
