# SPDX-License-Identifier: Apache-2.0
"""Runs to report on: a broken one that was explained, a sound one, one cut short, and one whose texts are markup."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sample_runs
import torch

from tttdebug.tracking.run import FINDINGS, Run

MARKUP = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(2)" \'><img src=x onerror=alert(3)>',
    "a|b `tick`` | **bold** [x](javascript:alert(4)) </style></title>",
    'comma, "quote"\nand a second line & &amp; @someone #1',
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="session")
def broken(folder: Path) -> Run:
    return sample_runs.write_explained_run(folder / "broken")


@pytest.fixture(scope="session")
def sound(folder: Path) -> Run:
    return sample_runs.write_run(folder / "sound", faulty=None)


@pytest.fixture(scope="session")
def unfinished(folder: Path) -> Run:
    sample_runs.write_unfinished_run(folder / "unfinished")
    return Run.load(folder / "unfinished")


@pytest.fixture(scope="session")
def incomparable(folder: Path) -> Run:
    """A boundary is NaN, one has another shape; the rest of what was expected is missing."""
    sample_runs.write_run_with_the_incomparable(folder / "incomparable")
    return Run.load(folder / "incomparable")


@pytest.fixture(scope="session")
def hostile(folder: Path) -> Run:
    """Every text is markup: names, prompts, notes, reasons, command, versions and findings."""
    path = folder / "hostile"
    sample_runs.write_hostile_run(path, MARKUP)
    finding = sample_runs.finding(MARKUP[0], [], MARKUP[1]).to_json()
    (path / FINDINGS).write_text(json.dumps({"findings": [finding], "notes": [MARKUP[2]]}), encoding="utf-8")
    run = Run.load(path)
    manifest = replace(
        run.manifest,
        command=MARKUP[1],
        versions={MARKUP[0]: MARKUP[1]},
        precision=MARKUP[2],
        prompts=({"text": MARKUP[1], "tokens": 3},),
    )
    manifest.write(path / "manifest.json")
    return Run.load(path)
