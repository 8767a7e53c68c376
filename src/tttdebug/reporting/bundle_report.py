# SPDX-License-Identifier: Apache-2.0
"""What `tttdebug bundle` prints: what was bundled and what was cut, or why nothing was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttdebug.reporting import console

if TYPE_CHECKING:
    from tttdebug.bundle_job import Bundled


def print_bundled(done: Bundled) -> None:
    """Print the outcome on standard output."""

    def say(text: str) -> None:
        console.OUT.print(text, markup=False, highlight=False, soft_wrap=True)

    if done.bundle is None:
        say(
            f"NOT BUNDLED  {done.call} does not fail alone: fed with the reference's input it has {done.whole}. The "
            "run's error there came in from modules before it, or is what its number formats cause. `tttdebug explain` "
            "says which module to bundle; --anyway bundles this one."
        )
        return
    say(f"BUNDLED  {done.bundle.title}")
    for step in done.bundle.shrunk.steps:
        say(f"  cut: {step}")
    for path in done.written:
        say(f"written: {path}")
