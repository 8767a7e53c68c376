# SPDX-License-Identifier: Apache-2.0
"""Finding and starting the dashboard."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sample_runs import SOUND

from tttdebug.errors import DashboardError
from tttdebug.reporting.dashboard import HOST, address_of, app_script, serve

SERVE = "import sys; from pathlib import Path; from tttdebug.reporting.dashboard import serve; "


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_its_address_serves_this_machine_only_and_ends_when_told(runs: Path, ending: signal.Signals) -> None:
    command = [
        sys.executable,
        "-c",
        f"{SERVE}sys.exit(serve(Path(sys.argv[1]), open_browser=False))",
        str(runs / SOUND),
    ]
    dashboard = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert dashboard.stdout is not None
    said = dashboard.stdout.readline()
    found = re.search(rf"http://127\.0\.0\.1:(\d+)/overview\?run={SOUND}", said)
    assert found, said
    port = int(found[1])
    assert listens(HOST, port)
    assert not listens("127.0.0.2", port)
    os.kill(dashboard.pid, ending)
    assert dashboard.wait(20) == 0
    assert not listens(HOST, port)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DashboardError, match=f"port {port} cannot be used"):
            serve(tmp_path, port=port, open_browser=False)


@pytest.mark.parametrize("port", [-1, 70000])
def test_an_impossible_port_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(DashboardError, match="cannot be used"):
        serve(tmp_path, port=port, open_browser=False)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DashboardError, match="is not a folder"):
        serve(tmp_path / "missing", open_browser=False)


def test_a_run_is_linked_to_and_a_folder_of_runs_is_not(runs: Path) -> None:
    assert address_of(runs, 1234) == "http://127.0.0.1:1234/"
    assert address_of(runs / SOUND, 1234) == f"http://127.0.0.1:1234/overview?run={SOUND}"


def test_the_app_is_found_where_it_is_installed() -> None:
    assert app_script().name == "main.py"
    assert app_script().parent.name == "app"
