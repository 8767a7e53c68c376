# SPDX-License-Identifier: Apache-2.0
"""What a port is compared with, call by call: what the reference gave, and the floors that its twin in the port's
formats shows.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from tttdebug.tracking.comparer import LOGITS
from tttdebug.tracking.floor import Draws, FloorError, no_draws
from tttdebug.tracking.goldens import Goldens
from tttdebug.tracking.hooks import ReferenceTap
from tttdebug.tracking.opening import floors_of
from tttdebug.tracking.pairing import reference_elements
from tttdebug.tracking.rounding_draws import draws_of
from tttdebug.tracking.sides import Forward, TorchSide

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tttdebug.tracking.subject import Subject


@dataclass(frozen=True)
class Expected:
    """One call of the reference for one user: what it gave at each boundary [1, T, C], the floors there, its logits.

    `adapters` say which tensor of an output that is, where a module gives several; an encoder has no logits.
    `draws` gives the floors in other draws of their roundings.
    """

    activations: Mapping[str, torch.Tensor]
    floors: Mapping[str, FloorError]
    adapters: Mapping[str, tuple[str, ...]]
    logits_TV: torch.Tensor | None = None
    draws: Draws = no_draws

    @property
    def logits(self) -> torch.Tensor:
        """The logits [T, V] of a language model."""
        assert self.logits_TV is not None
        return self.logits_TV

    def among(self, boundaries: Collection[str]) -> Expected:
        """The same at these boundaries alone."""
        return replace(
            self,
            activations={name: values for name, values in self.activations.items() if name in boundaries},
            floors={name: floor for name, floor in self.floors.items() if name in boundaries},
        )


class Truth(Protocol):
    """Gives what is expected of a user's whole prompt, and then of each further token."""

    def read(self, user: int) -> Expected: ...

    def decode(self, token: int, user: int) -> Expected: ...


class DecoderTruth:
    """A causal language model and its floor, run as they are asked, each with a cache for every user."""

    def __init__(self, subject: Subject, goldens: Goldens) -> None:
        elements = reference_elements(subject.paired)
        self._goldens = goldens
        self._prompts = subject.texts
        self._returned_logits = subject.returned_logits
        self._truth = TorchSide(subject.reference.model, subject.reference_modules, subject.caches, elements)
        self._floor = TorchSide(subject.floor, subject.floor_modules, subject.caches, elements)
        self._prompt_floors: dict[int, Mapping[str, FloorError]] = {}

    def read(self, user: int) -> Expected:
        token_ids = self._prompts[user].token_ids
        truth = self._goldens.forward(user, token_ids, partial(self._truth.prefill, token_ids, user))
        expected = self._expected(truth, self._floor.prefill(token_ids, user), partial(self._floor.again, token_ids))
        self._prompt_floors[user] = expected.floors
        return expected

    def decode(self, token: int, user: int) -> Expected:
        truth = self._goldens.forward(user, (token,), partial(self._truth.decode, token, user))
        again = partial(self._floor.again, (token,), self._floor.cache_of(user))
        expected = self._expected(truth, self._floor.decode(token, user), again)
        # one token is a sample of one and may by luck be nearly free of error, so the prompt's tokens have a say
        of_prompt = self._prompt_floors[user]
        floors = {
            boundary: replace(floor, token_rel_l2=of_prompt[boundary].token_rel_l2) if boundary in of_prompt else floor
            for boundary, floor in expected.floors.items()
        }
        return replace(expected, floors=floors)

    def _expected(self, truth: Forward, floor: Forward, again: Callable[[], Forward]) -> Expected:
        """`again` makes the floor's call once more."""
        known = self._known(truth)
        draws = draws_of(self._floor.model, lambda: floors_of(self._known(again()), known))
        return Expected(known, floors_of(self._known(floor), known), truth.adapters, truth.logits_TV, draws)

    def _known(self, forward: Forward) -> Mapping[str, torch.Tensor]:
        """What a call of a torch side gave at each boundary."""
        if not self._returned_logits:
            return forward.activations
        read_only = cast("MutableMapping[str, torch.Tensor]", forward.activations)  # a ChainMap writes into the first
        return ChainMap({LOGITS: forward.logits}, read_only)


class EncoderTruth:
    """An encoder and its floor, run as they are asked."""

    def __init__(self, subject: Subject, goldens: Goldens) -> None:
        self._subject = subject
        self._goldens = goldens
        self._elements = reference_elements(subject.paired)

    def read(self, user: int) -> Expected:
        subject, inputs = self._subject, self._subject.prompts[user].inputs
        run = partial(self._run, subject.reference.model, subject.reference_modules, inputs)
        truth = self._goldens.forward(user, (), run)

        def floors() -> dict[str, FloorError]:
            floor = self._run(subject.floor, subject.floor_modules, inputs)
            # a sentence is compared whole, however short
            return {
                name: FloorError(error.rel_l2, error.rel_l2)
                for name, error in floors_of(floor.activations, truth.activations).items()
            }

        return Expected(truth.activations, floors(), truth.adapters, draws=draws_of(subject.floor, floors))

    def decode(self, token: int, user: int) -> Expected:
        raise AssertionError("unreachable: an encoder makes no decode steps")

    def _run(self, model: nn.Module, modules: Mapping[str, nn.Module], inputs: torch.Tensor) -> Forward:
        """One call of the model."""
        import torch

        with torch.no_grad(), ReferenceTap(modules, self._elements) as tap:
            encoded(model, inputs)
            return Forward(None, tap.outputs(), tap.adapters())


def encoded(model: nn.Module, inputs: torch.Tensor) -> object:
    """What a torch encoder gives for token ids [S], or pixels [C, H, W] in the model's dtype."""
    if inputs.is_floating_point():
        inputs = inputs.to(next(model.parameters()).dtype)
    return model(inputs[None])


def truth_of(subject: Subject, goldens: Goldens | None = None) -> Truth:
    """The reference of a subject, to be asked once, in the order of its calls; of `goldens` what they hold."""
    goldens = goldens or Goldens()
    return EncoderTruth(subject, goldens) if subject.encodes else DecoderTruth(subject, goldens)


class KeptTruth:
    """What another truth gave, kept for every further port that reads the same: the reference runs once for all.

    Each port asks in the same order, for its tokens are the reference's own.
    """

    def __init__(self, source: Truth) -> None:
        self._source = source
        self._kept: dict[tuple[int, int], Expected] = {}  # by user, and how many tokens it decoded before

    def among(self, boundaries: Collection[str]) -> Truth:
        """For one port, from its first call on, at these boundaries alone."""
        return _Replay(self, frozenset(boundaries))

    def call(self, user: int, step: int, token: int | None) -> Expected:
        """What was expected in a user's prompt, step 0, or in a further step, of that token."""
        if (user, step) not in self._kept:
            asked = self._source.read(user) if token is None else self._source.decode(token, user)
            self._kept[user, step] = asked
        return self._kept[user, step]


class _Replay:
    def __init__(self, kept: KeptTruth, boundaries: frozenset[str]) -> None:
        self._kept, self._boundaries = kept, boundaries
        self._steps: dict[int, int] = {}

    def read(self, user: int) -> Expected:
        self._steps[user] = 0
        return self._kept.call(user, 0, None).among(self._boundaries)

    def decode(self, token: int, user: int) -> Expected:
        self._steps[user] += 1
        return self._kept.call(user, self._steps[user], token).among(self._boundaries)
