# SPDX-License-Identifier: Apache-2.0
"""The job behind `tttdebug emulator conformance`: find recordings and engines, replay, judge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.emulator import ENGINES
from tttdebug.emulator.conformance import Progress, replay_folder
from tttdebug.emulator.conformance_results import CaseResult, FamilyResult, judge
from tttdebug.emulator.errors import EmulatorError
from tttdebug.errors import WeightsError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

VARIABLE = "TTTDEBUG_GOLDEN"
SHIPPED = Path(__file__).parents[2] / "tests" / "emulator" / "data" / "recordings"  # of a source tree


@dataclass(frozen=True)
class Checked:
    """What was replayed and how it was judged."""

    folder: Path
    cases: tuple[CaseResult, ...]
    families: tuple[FamilyResult, ...]

    @property
    def holds(self) -> bool:
        return all(family.holds for family in self.families)


def check(folder: Path | None, engines: Sequence[str], progress: Progress) -> Checked:
    """Replays a folder of recordings on engines, by default on all but `ideal`, which has no target.

    Raises EmulatorError when there are no recordings or no such engine.
    """
    chosen = folder or default_folder()
    if not chosen.is_dir():
        raise EmulatorError(f"{chosen} is no folder; give one of recordings of the real ttnn")
    names = list(dict.fromkeys(engines)) or [name for name in ENGINES if name != "ideal"]
    cases, not_run = replay_folder(chosen, names, _llama, progress)
    return Checked(chosen, tuple(cases), tuple(judge(cases, not_run, names)))


def default_folder() -> Path:
    """The folder that TTTDEBUG_GOLDEN names, else the subset in the source tree."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    if not SHIPPED.is_dir():
        raise EmulatorError(f"there are no recordings beside this installation; give a folder or set {VARIABLE}")
    return SHIPPED


def _llama() -> LlamaForCausalLM:
    """The model of the recorded chains."""
    from tttdebug.references import load_reference

    try:
        return load_reference("llama").model
    except WeightsError as error:
        raise EmulatorError(f"weights: {error}") from error
