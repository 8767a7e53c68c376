# SPDX-License-Identifier: Apache-2.0
"""What else sound modules are measured over, besides a run's own prompts: texts of the package, or random images."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from tttdebug.tracking.images import Image, random_image
from tttdebug.tracking.prompts import Prompt, read_prompt
from tttdebug.tracking.subject import Subject

TOKENS = 64


def calibration(subject: Subject, count: int) -> Sequence[Prompt | Image]:
    """That many inputs besides the run's; none for a count below 1."""
    if count <= 0:
        return []
    if subject.reference.reads_images:
        return [random_image(subject.reference, seed) for seed in range(1, count + 1)]
    return _turned(subject, count) if subject.reference.tokenizer is None else _of_the_package(subject, count)


def _of_the_package(subject: Subject, count: int) -> list[Prompt]:
    """Prose, code and numbers."""
    texts = (files("tttdebug") / "prompts" / "calibration.txt").read_text(encoding="utf-8").split("\n\n")
    read = [read_prompt(subject.reference, text.strip()) for text in texts[:count]]
    longest = min(TOKENS, subject.reference.context_length)
    return [Prompt(prompt.text, prompt.token_ids[:longest]) for prompt in read]


def _turned(subject: Subject, count: int) -> list[Prompt]:
    """The run's first prompt begun elsewhere, its beginning put behind its end: no text can be read."""
    own = subject.texts[0].token_ids
    shift = max(1, len(own) // (count + 1))
    pieces = [own[i * shift :] + own[: i * shift] for i in range(1, count + 1)]
    return [Prompt("", piece[:TOKENS]) for piece in pieces]
