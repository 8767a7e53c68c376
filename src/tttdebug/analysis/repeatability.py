# SPDX-License-Identifier: Apache-2.0
"""Whether a port gives the same bits each time, and whether one prompt leaves something behind for the next."""

from __future__ import annotations

from tttdebug.analysis.finding import Finding
from tttdebug.analysis.special.determinism import first_varying
from tttdebug.analysis.special.state import first_leak
from tttdebug.tracking.images import Image
from tttdebug.tracking.prompts import Prompt
from tttdebug.tracking.subject import Subject

TOKENS = 32
"""Of the prompt that is read again and again: a tile, which costs little."""


def unrepeatable(subject: Subject, other: Prompt | Image | None) -> list[Finding]:
    """A finding where the port's bits vary between readings of one prompt; else where reading `other` changes them."""
    first = subject.prompts[0]
    inputs = first.inputs if isinstance(first, Image) else first.inputs[:TOKENS]
    about = (subject.port, subject.driver, subject.paired, inputs)
    varying = first_varying(*about)
    if varying is not None:
        return [varying]
    leak = None if other is None else first_leak(*about, other.inputs)
    return [] if leak is None else [leak]
