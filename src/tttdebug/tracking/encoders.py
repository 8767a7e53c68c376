# SPDX-License-Identifier: Apache-2.0
"""Tracking an encoder beside its reference: every sentence or image once, every boundary compared."""

from __future__ import annotations

from collections.abc import Callable

from tttdebug.tracking.calls import Call, UserCall
from tttdebug.tracking.comparer import Comparer
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.truth import Truth
from tttdebug.tracking.writer import RunWriter

Progress = Callable[[str, "float | None"], None]


class Encodings:
    """The comparison of an encoder: one call an input."""

    def __init__(self, subject: Subject, truth: Truth, writer: RunWriter, progress: Progress) -> None:
        self._subject = subject
        self._truth = truth
        self._progress = progress
        self.comparer = Comparer(subject.port, subject.paired, (), writer)

    def run(self) -> None:
        """Every input through the reference, the floor and the port."""
        prompts = self._subject.prompts
        for user, prompt in enumerate(prompts):
            self._progress(f"input {user + 1} of {len(prompts)}", user / len(prompts))
            told = self._truth.read(user)
            part = UserCall((), 0, told.activations, told.floors, adapters=told.adapters, draws=told.draws)
            self.comparer.expect(Call("prefill", 0, {user: part}))
            self._subject.driver.prefill(prompt.inputs[None], user)
            self.comparer.settle()

    def conclude(self) -> None:
        """An encoder predicts no tokens, so that there is nothing to say of a run as a whole."""
