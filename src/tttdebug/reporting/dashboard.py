# SPDX-License-Identifier: Apache-2.0
"""Finding the dashboard and starting it: a Streamlit server on this machine only, ended with Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import tttdebug
from tttdebug.errors import DashboardError
from tttdebug.reporting.palette import PRIMARY, VERDICTS

HOST = "127.0.0.1"
RUNS_VARIABLE = "TTTDEBUG_RUNS"
"""Tells the app which folder to look for runs in."""
_MANIFEST = "manifest.json"
_SECONDS_TO_START = 60.0
_SECONDS_TO_END = 5.0


def serve(path: Path, *, port: int | None = None, open_browser: bool = True) -> int:
    """Show the runs in folder `path`, or the run that it is, until Ctrl-C; gives the server's exit code, 0 for Ctrl-C.

    Prints the address when the server answers. Without `port` a free one is taken. It listens on 127.0.0.1 only.
    Raises DashboardError when `path` is no folder, the port is taken, or the server does not start.
    """
    if not path.is_dir():
        raise DashboardError(
            f"{path} is not a folder; give the folder of a run or one that holds runs, or make a "
            "run first: tttdebug run --model llama"
        )
    port = free_port() if port is None else _checked(port)
    address = address_of(path, port)
    try:
        with _server(path, port) as server:
            wait_until_healthy(server, port)
            print(f"Dashboard: {address}  (Ctrl-C ends it)", flush=True)
            if open_browser:
                webbrowser.open(address)
            return server.wait()
    except KeyboardInterrupt:
        return 0


def address_of(path: Path, port: int) -> str:
    """Where the server shows `path`: the overview when it is a run, else the list of the runs in it."""
    base = f"http://{HOST}:{port}/"
    return f"{base}overview?run={quote(path.resolve().name)}" if (path / _MANIFEST).is_file() else base


def app_script() -> Path:
    """The dashboard's main script: inside an installed package, or at the root of a checkout."""
    package = Path(tttdebug.__file__).resolve().parent
    for app in (package / "app", package.parents[1] / "app"):
        if (app / "main.py").is_file():
            return app / "main.py"
    raise DashboardError(f"the dashboard's files are missing beside {package}; install tttdebug again")


def server_command(port: int) -> list[str]:
    """The command that serves the app: no telemetry, no file watching, no network but 127.0.0.1, our colours."""
    options: dict[str, object] = {
        "server.address": HOST,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "runner.magicEnabled": "false",
        "browser.gatherUsageStats": "false",
        "global.developmentMode": "false",  # Streamlit guesses it from where it lies, and then refuses a port
        "client.toolbarMode": "minimal",
        "client.showErrorLinks": "false",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(app_script())]
    return command + [f"--{name}={value}" for name, value in (options | _theme()).items()]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _checked(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise DashboardError(f"port {port} cannot be used ({error}); give another one, or none") from None
    return port


def _theme() -> dict[str, str]:
    """The palette as Streamlit options, the same for light and dark so that a verdict has one colour."""
    colours = {"primaryColor": PRIMARY, "linkColor": PRIMARY, "codeTextColor": PRIMARY}
    for style in VERDICTS.values():
        colours |= {f"{style.hue}Color": style.colour, f"{style.hue}TextColor": style.colour}
    return {f"theme.{base}.{name}": value for base in ("light", "dark") for name, value in colours.items()}


@contextmanager
def _server(path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The running server; ended on the way out, also when this process is told to terminate."""
    environment = os.environ | {RUNS_VARIABLE: str(path.resolve())}
    server = subprocess.Popen(server_command(port), env=environment, stdout=subprocess.DEVNULL)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield server
    finally:
        signal.signal(signal.SIGTERM, previous)
        server.terminate()
        try:
            server.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while server.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            return
        time.sleep(0.1)
    if server.returncode is None:
        raise DashboardError(f"the dashboard did not answer on port {port} within {_SECONDS_TO_START:.0f} s")
    raise DashboardError(f"the dashboard ended with exit code {server.returncode}; its messages are above")


def _answers(port: int) -> bool:
    with closing(HTTPConnection(HOST, port, timeout=1)) as connection:
        try:
            connection.request("GET", "/_stcore/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
