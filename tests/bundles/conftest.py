# SPDX-License-Identifier: Apache-2.0
"""A tiny reference on disk, and the command run in this process on runs of faulty ports of it."""

import sys
from pathlib import Path

import pytest
from standing_alone import StandingAlone
from tiny_llamas import tiny_llama

from tttdebug import cli

IDS = " ".join(map(str, range(3, 43)))
SHAPE = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "intermediate_size": 160,
}


def call(*arguments):
    """Runs the command in this process and gives its exit code."""
    before = sys.argv
    sys.argv = ["tttdebug", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        sys.argv = before
    return exit_.value.code or 0


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference")
    tiny_llama(7, **SHAPE).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def run_of(tiny_folder, tmp_path_factory):
    """The folder of a run with a fault, made once a session; None for a sound port."""
    made: dict[str | None, Path] = {}

    def act(fault):
        if fault not in made:
            made[fault] = tmp_path_factory.mktemp("runs") / "run"
            inject = () if fault is None else ("--inject", fault)
            common = ("--model", tiny_folder, "--token-ids", IDS, "--decode-steps", "1", "--quiet")
            call("run", *common, *inject, "--out", made[fault])
        return made[fault]

    return act


@pytest.fixture
def bundle(tmp_path, capsys, monkeypatch):
    """Runs `tttdebug bundle` and gives its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def act(*arguments):
        capsys.readouterr()
        code = call("bundle", *arguments, *(() if "--output" in arguments else ("--output", tmp_path / "bundle")))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act


@pytest.fixture
def unpacked(tmp_path):
    return lambda: StandingAlone(tmp_path / "bundle.zip", tmp_path / "elsewhere")
