# SPDX-License-Identifier: Apache-2.0
"""The job of `tttdebug baseline`: a baseline file out of a run, an update of one, or the update as a diff."""

from __future__ import annotations

import getpass
import subprocess
from datetime import date
from pathlib import Path

from tttdebug.errors import BaselineError
from tttdebug.testing.baseline import Baseline, Entry, baseline_of, diff, updated
from tttdebug.testing.baseline_file import baseline_text, read_baseline, write_baseline
from tttdebug.testing.side import Side, side_of_run


def written(run: Path, out: Path, why: str, *, patterns: bool) -> str:
    """Write a new baseline file; what was done, in words. Raises BaselineError where the file exists already."""
    if out.exists():
        raise BaselineError(f"{out} exists already; --update {out} tightens it, or remove it first")
    baseline = baseline_of(_whole(run), _entry(why), patterns=patterns)
    write_baseline(baseline, out)
    return f"written: {out}, {len(baseline.limits)} limits"


def tightened(run: Path, file: Path, why: str, *, loosen: bool) -> str:
    """Update a baseline file; what was done, in words."""
    before, after = _update(run, file, why, loosen)
    if after is before:
        return f"{file} stays as it is"
    write_baseline(after, file)
    changed = sum(limit.since == len(after.history) for limit in after.limits.values())
    dropped = len(before.limits.keys() - after.limits.keys())
    return f"updated: {file}, {changed} of {len(after.limits)} limits" + (f", {dropped} dropped" if dropped else "")


def proposed(run: Path, file: Path, why: str, *, loosen: bool) -> str:
    """The update as a unified diff of the file, empty where there is none; nothing is written."""
    before, after = _update(run, file, why, loosen)
    text = file.read_text(encoding="utf-8")
    return "" if after is before else diff(text, baseline_text(after), file.as_posix())


def _update(run: Path, file: Path, why: str, loosen: bool) -> tuple[Baseline, Baseline]:
    before = read_baseline(file)
    return before, updated(before, _whole(run), _entry(why), loosen=loosen)


def _whole(run: Path) -> Side:
    """A run that came to its end: limits of a part would let the rest get worse."""
    side = side_of_run(run)
    if side.environment["status"] != "finished":
        raise BaselineError(
            f"{run} is {side.environment['status']}: limits are taken from a finished run; run it again"
        )
    return side


def _entry(why: str) -> Entry:
    return Entry(_who(), date.today(), why)


def _who() -> str:
    """The user as git knows him, else by his name on this machine."""
    try:
        asked = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return _login()
    return asked.stdout.strip() or _login()


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
