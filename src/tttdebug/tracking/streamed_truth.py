# SPDX-License-Identifier: Apache-2.0
"""What a reference larger than memory gives, put into goldens before the port runs: a layer at a time, all prompts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.errors import GoldenError
from tttdebug.tracking.goldens import Goldens
from tttdebug.tracking.pairing import reference_elements
from tttdebug.tracking.sides import TorchSide

if TYPE_CHECKING:
    from tttdebug.tracking.subject import Subject

Progress = Callable[[str, "float | None"], None]


def fill_goldens(subject: Subject, goldens: Goldens, progress: Progress) -> None:
    """Run a streamed reference over every prompt that has no golden yet.

    Each call, the prefill and then each decode step, reads the checkpoint once for all prompts: the token that a step
    reads is known only when the step before is through the last layer. Raises GoldenError where there is no room for
    what the reference gives.
    """
    stream = subject.reference.stream
    users = goldens.lacking
    if stream is None or subject.encodes or not users:
        return
    side = TorchSide(
        subject.reference.model, subject.reference_modules, subject.caches, reference_elements(subject.paired)
    )
    read = {user: tuple(subject.texts[user].token_ids) for user in users}
    try:
        for call in range(goldens.calls):
            progress("the reference, a layer at a time: " + ("prefill" if call == 0 else f"step {call}"), None)
            made = stream.together(
                [
                    partial(side.prefill, read[user], user) if call == 0 else partial(side.decode, read[user][0], user)
                    for user in users
                ]
            )
            for user, forward in zip(users, made, strict=True):
                goldens.write(user, forward, read[user])
                read[user] = (int(forward.logits[-1].argmax()),)
        for user in users:
            goldens.settle(user)
    except OSError as error:
        raise GoldenError(
            f"cannot keep what the reference gives ({error.strerror or error}); a reference that runs a layer at a "
            "time needs room for it: set TTTDEBUG_CACHE, or TMPDIR with --no-golden-cache, to a folder that has it"
        ) from error
