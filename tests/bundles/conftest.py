# SPDX-License-Identifier: Apache-2.0
"""A tiny reference on disk, and the command run in this process on runs of faulty ports of it."""

from pathlib import Path

import pytest
from standing_alone import StandingAlone
from tiny_llamas import THREE_HEADS, tiny_llama

from typed_command import FORTY_TOKENS, typed


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference")
    tiny_llama(7, **THREE_HEADS).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def run_of(tiny_folder, tmp_path_factory):
    """The folder of a run with a fault, made once a session; None for a sound port."""
    made: dict[str | None, Path] = {}

    def act(fault):
        if fault not in made:
            made[fault] = tmp_path_factory.mktemp("runs") / "run"
            inject = () if fault is None else ("--inject", fault)
            common = ("--model", tiny_folder, "--token-ids", FORTY_TOKENS, "--decode-steps", "1", "--quiet")
            typed("run", *common, *inject, "--out", made[fault])
        return made[fault]

    return act


@pytest.fixture
def bundle(tmp_path, capsys, monkeypatch):
    """Runs `tttdebug bundle` and gives its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def act(*arguments):
        capsys.readouterr()
        code = typed("bundle", *arguments, *(() if "--output" in arguments else ("--output", tmp_path / "bundle")))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act


@pytest.fixture
def unpacked(tmp_path):
    return lambda: StandingAlone(tmp_path / "bundle.zip", tmp_path / "elsewhere")
