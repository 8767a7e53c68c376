# SPDX-License-Identifier: Apache-2.0
"""One call of the port, a prefill or a decode step: who is in it, and what the reference gave for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.call_arguments import CallArguments
from tttdebug.tracking.call_numbers import first_call_of, name_of_call
from tttdebug.tracking.floor import Draws, FloorError, no_draws
from tttdebug.tracking.layout import padded_lengths
from tttdebug.tracking.output_elements import element_of

if TYPE_CHECKING:
    import torch

CONTRADICTION = re.compile(r"the port ran \S+ for \w+ in a \w+|the module was told position .+? the step is at \d+")
"""What `contradictions` says, in the note of a record."""


@dataclass(frozen=True)
class UserCall:
    """One user's part in a call: the tokens it reads, where they start, and what the reference gave for them.

    `row` is the user's slot in the port, which counts anew where the port takes one prompt at a time; `adapters` which
    tensor of a reference's output an activation is; `draws` gives the floors in other draws of their roundings.
    """

    token_ids: Sequence[int]
    start: int
    activations: Mapping[str, torch.Tensor]
    floors: Mapping[str, FloorError]
    row: int = 0
    adapters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    draws: Draws = no_draws


@dataclass(frozen=True)
class Call:
    """One call of the port, with all users in it."""

    phase: str
    step: int
    users: Mapping[int, UserCall]

    @property
    def read_together(self) -> int:
        """How many prompts lie in one sequence of a prefill; a decode step has a row for each of its users."""
        return len(self.users) if self.phase == "prefill" else 1


def repeated(call: Call) -> set[str]:
    """The second and further calls of modules that the reference calls several times."""
    return {name for part in call.users.values() for name in part.activations if first_call_of(name) != name}


def is_of_one_prompt(output: Any, call: Call) -> bool:
    """Whether an output in a prefill of several prompts holds the tokens of one, padded or not."""
    tensor, _ = element_of(output, None, "port")
    if call.read_together == 1 or not hasattr(tensor, "shape"):
        return False
    rows, tokens = math.prod(tuple(tensor.shape)[:-1]), len(next(iter(call.users.values())).token_ids)
    return rows in (tokens, *padded_lengths(tokens))  # never as many as all have: see `refuse_lengths`


def known_call(boundary: str, activations: Mapping[str, object]) -> str | None:
    """The reference's call that a call of the port is set beside: that of its number, or the only one there is.

    A port may compute again what the reference keeps, a norm for each of two branches say. None when neither is there.
    """
    first = first_call_of(boundary)
    if boundary in activations:
        return boundary
    return first if first in activations and name_of_call([first], 1) not in activations else None


def contradictions(arguments: CallArguments, call: Call) -> list[str]:
    """What a module was told that is not so: another phase, or in a decode step another position of a user."""
    said = []
    if arguments.phase not in ("", call.phase):
        said.append(f"the port ran {arguments.entry} for {arguments.phase} in a {call.phase}")
    if call.phase == "decode" and arguments.positions is not None:
        for part in call.users.values():
            told = _of_row(arguments.positions, part.row)
            if told != part.start:
                said.append(f"the module was told position {told} of row {part.row}, the step is at {part.start}")
    return said


def _of_row(positions: tuple[int, ...], row: int) -> int | None:
    """A single position is that of all users."""
    return positions[0] if len(positions) == 1 else positions[row] if row < len(positions) else None
