# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/ci.md run as plain commands in a new folder: its own blocks, the workflow's steps, the hooks.

Then once more on a port with a fault, where the workflow's gates have to fail: .venv/bin/python .ci/run_examples.py
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```sh test\n(.*?)^```", re.MULTILINE | re.DOTALL)
AS_GITHUB_DOES = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
FAULT = "--inject gate_up_exchanged@L01.mlp"
MUST_FAIL = ("tttdebug gate reports/now", "tttdebug compare reports/now")


@dataclass(frozen=True)
class Command:
    """What is run, and where it is from."""

    name: str
    arguments: tuple[str, ...]


def page_commands(page: Path) -> list[Command]:
    """The page's own blocks."""
    return [Command(page.name, (*AS_GITHUB_DOES, block)) for block in BLOCK.findall(page.read_text(encoding="utf-8"))]


def workflow_commands(path: Path) -> list[Command]:
    """The `run:` steps of a workflow. Raises ValueError for what GitHub would not take as one."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    triggers = content.get("on", content.get(True))  # YAML 1.1 reads a bare `on` as true
    _require(bool(triggers) and bool(content.get("jobs")), f"{path} needs `on` and `jobs`")
    commands = []
    for job_name, job in content["jobs"].items():
        _require("runs-on" in job and bool(job.get("steps")), f"{path}: job {job_name} needs runs-on and steps")
        for step in job["steps"]:
            _require(len({"run", "uses"} & step.keys()) == 1, f"{path}: a step has one of run and uses: {step}")
            _require("uses" not in step or "@" in step["uses"], f"{path}: an action needs its version: {step}")
            if "run" in step:
                commands.append(Command(step["name"], (*AS_GITHUB_DOES, step["run"])))
    return commands


def hook_commands(path: Path) -> list[Command]:
    """The entries of a pre-commit config. Raises ValueError for what pre-commit would not take as one."""
    commands = []
    for repo in yaml.safe_load(path.read_text(encoding="utf-8"))["repos"]:
        for hook in repo["hooks"]:
            missing = {"id", "name", "entry", "language"} - hook.keys()
            _require(not missing, f"{path}: hook {hook.get('id')} lacks {missing}")
            re.compile(hook.get("files", ""))
            _require(hook.get("pass_filenames") is False, f"{path}: {hook['id']} takes no file names")
            commands.append(Command(f"pre-commit {hook['id']}", tuple(shlex.split(hook["entry"]))))
    return commands


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def run(command: Command, folder: Path, *, exits: int = 0) -> None:
    """Run a command as CI would. Raises RuntimeError, with all that it printed, where it exits otherwise."""
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = os.environ | {"PATH": paths, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    started = time.perf_counter()
    done = subprocess.run(command.arguments, cwd=folder, env=env, capture_output=True, text=True)
    print(f"{time.perf_counter() - started:5.1f} s  exit {done.returncode}  {command.name}")
    if done.returncode != exits:
        raise RuntimeError(f"{command.name} exits with {done.returncode}, not {exits}\n{done.stdout}{done.stderr}")


def main() -> None:
    steps = workflow_commands(DOCS / "examples" / "accuracy.yml")
    hooks = hook_commands(DOCS / "examples" / "pre-commit-config.yaml")
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "requirements.txt").write_text("tttdebug\n")
        for command in (*page_commands(DOCS / "ci.md"), *steps, *hooks):
            run(command, folder)
        for written in ("reports/gate.xml", "reports/selftest.xml", "summary.md"):
            _require((folder / written).stat().st_size > 0, f"{written} is empty")
        shutil.rmtree(folder / "reports" / "now")
        for step in steps:
            script = step.arguments[-1]
            if script.startswith("tttdebug run"):
                run(Command(f"{step.name}, broken", (*AS_GITHUB_DOES, script.replace(" ||", f" {FAULT} ||"))), folder)
            elif script.startswith(MUST_FAIL):
                run(step, folder, exits=1)


if __name__ == "__main__":
    main()
