# SPDX-License-Identifier: Apache-2.0
"""The calls of a run made again, one at a time: what the reference did in each, and how to run the port for it.

S tokens, or C channels, H height and W width of an image; T positions, V channels of what the model ends in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.port_caches import fill_caches
from tttdebug.analysis.torch_reading import reader_of
from tttdebug.tracking.pairing import reference_elements, through_modules
from tttdebug.tracking.reference_calls import CallCapture, TorchCall
from tttdebug.tracking.subject import Subject

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class UserTurn:
    """One user's part of a call: what it reads, from position `start` on, and every call of a module of the reference.

    `inputs` are token ids [S] or an image [C, H, W] of so many `tokens` of the model, `row` is the user's slot in the
    port. `cache_before` is the reference's cache before the call, and `cache_after` after it, None of an encoder;
    `end_TV` is what the reference ends in: logits, or an encoder's last output that was compared.
    """

    user: int
    row: int
    inputs: torch.Tensor
    tokens: int
    start: int
    calls: Mapping[str, TorchCall]
    cache_before: Any
    cache_after: Any
    end_TV: torch.Tensor

    def reads_inputs(self, boundary: str) -> bool:
        """Whether a module of the reference gets what the model reads: ids or an image, alike on both sides."""
        x = self.calls[boundary].input
        return not x.is_floating_point() or x.data_ptr() == self.inputs.data_ptr()


@dataclass(frozen=True)
class Turn:
    """One call of the port, a prefill or a decode step, about to be made; `run` makes it and gives what it returns.

    `read_together` prompts lie in one sequence.
    """

    phase: str
    step: int
    users: Mapping[int, UserTurn]
    run: Callable[[], Any]

    @property
    def read_together(self) -> int:
        return len(self.users) if self.phase == "prefill" else 1


def turns(subject: Subject, *, decode_steps: int | None = None, reference_cache: bool = False) -> Iterator[Turn]:
    """Every call of a run again, driven by the reference's tokens; the caller makes each before it asks for the next.

    With `reference_cache` the port's caches hold the reference's keys and values before each decode step, so that no
    earlier error of the port comes in by them.
    """
    import torch

    truth = _Truth(subject)
    steps = subject.decode_steps if decode_steps is None else decode_steps
    prompts, driver = subject.prompts, subject.driver
    for group in driver.groups(len(prompts)):
        driver.start(len(group), max(len(prompts[user].inputs) for user in group) + steps)
        last: dict[int, UserTurn] = {}
        for users in driver.prefills(group):
            here = {user: truth.read(user, group.index(user), prompts[user].inputs, None) for user in users}
            inputs_B = torch.stack([prompts[user].inputs for user in users])
            yield Turn("prefill", 0, here, partial(driver.prefill, inputs_B, group.index(users[0])))
            last |= here
        if driver.decode is None:
            continue
        for step in range(steps):
            if reference_cache:
                fill_caches(subject, {turn.row: turn.cache_after for turn in last.values()})
            last = {
                user: truth.read(user, turn.row, turn.end_TV[-1].argmax()[None], turn) for user, turn in last.items()
            }
            ids_B = torch.cat([turn.inputs for turn in last.values()])
            positions_B = torch.tensor([turn.start for turn in last.values()])
            yield Turn("decode", step, last, partial(driver.decode, ids_B, positions_B))


class _Truth:
    """The reference, each call of it with all calls of its paired modules."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._reader = reader_of(subject, subject.reference.model, subject.reference_modules)
        self._elements = reference_elements(subject.paired)
        self._through = through_modules(subject.reference.model, subject.paired)

    def read(self, user: int, row: int, inputs: torch.Tensor, before: UserTurn | None) -> UserTurn:
        """One user's part of the next call, after the part `before` it."""
        import torch

        start = 0 if before is None else before.start + before.tokens
        cache, untouched = (self._reader.going_on(before and before.cache_after) for _ in range(2))
        capture = CallCapture(self._subject.reference_modules, self._elements, through=self._through)
        with torch.no_grad(), capture:
            reading = self._reader.read(inputs, cache)
        tokens = self._subject.tokens_of(inputs)
        return UserTurn(user, row, inputs, tokens, start, capture.calls, untouched, reading.cache, reading.end_TV)
