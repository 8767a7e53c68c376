# SPDX-License-Identifier: Apache-2.0
"""The calls of a run made again, one at a time: what the reference did in each, and how to run the port for it.

K key/value heads, T tokens, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.port_caches import fill_caches
from tttdebug.tracking.pairing import reference_elements
from tttdebug.tracking.reference_calls import CallCapture, TorchCall
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.torch_cache import cache_argument, fork

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class UserTurn:
    """One user's part of a call: its tokens from position `start` on, and every call of a module of the reference.

    `row` is the user's slot in the port. `cache_before` is the reference's cache before the call, and `cache_after`
    after it; `logits_TV` what the reference predicts.
    """

    user: int
    row: int
    token_ids: tuple[int, ...]
    start: int
    calls: Mapping[str, TorchCall]
    cache_before: Any
    cache_after: Any
    logits_TV: torch.Tensor


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
    truth = _Truth(subject)
    steps = subject.decode_steps if decode_steps is None else decode_steps
    prompts, driver = subject.prompts, subject.driver
    for group in driver.groups(len(prompts)):
        driver.start(len(group), max(len(prompts[user].token_ids) for user in group) + steps)
        last: dict[int, UserTurn] = {}
        for users in driver.prefills(group):
            here = {user: truth.read(user, group.index(user), prompts[user].token_ids, 0, None) for user in users}
            ids_BS = _tensor([prompts[user].token_ids for user in users])
            yield Turn("prefill", 0, here, partial(driver.prefill, ids_BS, group.index(users[0])))
            last |= here
        if driver.decode is None:
            continue
        for step in range(steps):
            if reference_cache:
                fill_caches(subject, {turn.row: turn.cache_after for turn in last.values()})
            last = {
                user: truth.read(
                    user, turn.row, (int(turn.logits_TV[-1].argmax()),), turn.start + len(turn.token_ids), turn
                )
                for user, turn in last.items()
            }
            tokens = _tensor([turn.token_ids[0] for turn in last.values()])
            positions = _tensor([turn.start for turn in last.values()])
            yield Turn("decode", step, last, partial(driver.decode, tokens, positions))


class _Truth:
    """The reference, each call of it with all calls of its paired modules."""

    def __init__(self, subject: Subject) -> None:
        self._model: nn.Module = subject.reference.model
        self._modules = subject.reference_modules
        self._elements = reference_elements(subject.paired)
        self._cache_name = cache_argument(self._model)

    def read(self, user: int, row: int, token_ids: Sequence[int], start: int, before: UserTurn | None) -> UserTurn:
        import torch
        from transformers import DynamicCache

        cache = DynamicCache() if before is None else fork(before.cache_after)
        untouched = fork(cache)
        with torch.no_grad(), CallCapture(self._modules, self._elements) as capture:
            output = self._model(input_ids=_tensor([list(token_ids)]), use_cache=True, **{self._cache_name: cache})
        after = getattr(output, self._cache_name)
        return UserTurn(user, row, tuple(token_ids), start, capture.calls, untouched, after, output.logits[0])


def _tensor(token_ids: Any) -> torch.Tensor:
    import torch

    return torch.tensor(token_ids)
