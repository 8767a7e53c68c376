# SPDX-License-Identifier: Apache-2.0
"""What each module of the reference gives in the port's number formats, for the reference's own input.

It is computed module by module, when the port's counterpart has given its output, so that one layer's outputs are held
at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.port_caches import reference_part, round_cache
from tttdebug.analysis.turns import UserTurn
from tttdebug.tracking.pairing import CachePair, through_modules
from tttdebug.tracking.reference_calls import TorchCall, answering, called
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.torch_cache import in_dtype, is_cache

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class OwnFloor:
    """What a boundary should give, what the number formats leave of it, and both for the caches that it fills.

    What the formats leave is None where that is not known.
    """

    expected: torch.Tensor
    output: torch.Tensor | None
    caches: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]]


class Floor(Protocol):
    """The floors of one user's part in a call."""

    def own(self, boundary: str, known: str, outputs: Mapping[str, torch.Tensor]) -> OwnFloor:
        """Of the port's call at `boundary`, which the reference made as its call `known`; `outputs` are what the port's
        parts within it gave.
        """
        ...


class SoundOutputs:
    """The floors that a sound port shows: what it was off at each boundary, [T, C], added to what is expected there."""

    def __init__(
        self, subject: Subject, composition: Composition, user: UserTurn, errors: Mapping[str, torch.Tensor]
    ) -> None:
        self._caches = subject.caches
        self._composition = composition
        self._user = user
        self._errors = errors

    def own(self, boundary: str, known: str, outputs: Mapping[str, torch.Tensor]) -> OwnFloor:
        expected = self._composition.expected(known, self._user.calls, outputs)
        caches: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        for pair in self._caches:
            if pair.after == known:
                truth = reference_part(self._user.cache_after, pair, self._user.start)
                if truth is not None:
                    caches[pair.boundary] = (truth, self._with_error(pair.boundary, truth))
        return OwnFloor(expected, self._with_error(boundary, expected), caches)

    def _with_error(self, boundary: str, expected: torch.Tensor) -> torch.Tensor | None:
        error = self._errors.get(boundary)
        if error is None or error.numel() != expected.numel():
            return None
        return expected.float() + error.reshape(expected.shape)


class FloorModules:
    """The modules of the floor, each called as the reference's was; the outputs of parts are kept until their holder's.

    One of these serves one user in one call.
    """

    def __init__(self, subject: Subject, composition: Composition, user: UserTurn) -> None:
        self._subject = subject
        self._modules = subject.floor_modules
        self._through = through_modules(subject.floor, subject.paired)
        self._dtype = next(subject.floor.parameters()).dtype
        self._caches = subject.caches
        self._composition = composition
        self._user = user
        self._outputs: dict[str, torch.Tensor] = {}

    def own(self, boundary: str, known: str, outputs: Mapping[str, torch.Tensor]) -> OwnFloor:
        """Of the module at a boundary.

        A module that holds others is given the outputs of these on either side, so that its wiring alone is compared:
        `expected` is what the reference makes of the port's, and `output` differs from it as the floor's differs from
        what the reference makes of the floor's.
        """
        truth = self._user.calls[known]
        expected = self._composition.expected(known, self._user.calls, outputs)
        parts = {part: self._outputs.pop(part) for part in self._composition.parts_of(known) if part in self._outputs}
        call, caches = self._call(known, truth, parts)
        output = call.float()
        self._outputs[known] = output
        if parts:
            output = expected + (output - self._composition.expected(known, self._user.calls, parts))
        return OwnFloor(expected, output, caches)

    def _call(
        self, boundary: str, truth: TorchCall, parts: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor | None]]]:
        """The floor's module on the reference's input, and what it wrote into its caches beside the reference's."""
        import torch

        args, kwargs = _in(self._dtype, truth.args), _in(self._dtype, dict(truth.kwargs))
        held = next(filter(is_cache, (*args, *kwargs.values())), None)
        for pair in self._caches:
            if pair.after == boundary and held is not None:
                round_cache(self._subject, pair, held)
        answers: dict[nn.Module, Any] = {}
        for part, output in parts.items():
            own = self._user.calls[part]
            answers[self._modules[part]] = own.output_with(output.reshape(own.output_tensor.shape).to(self._dtype))
        with torch.no_grad(), answering(answers):
            module = self._modules[boundary]
            output = called(module, self._through.get(boundary, ()), args, kwargs)
            given = TorchCall(module, args, kwargs, output, truth.element)
        caches: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        for pair in self._caches:
            if pair.after == boundary and held is not None:
                written = self._written(pair, held)
                if written is not None:
                    caches[pair.boundary] = written
        return given.output_tensor, caches

    def _written(self, pair: CachePair, cache: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        truth, floor = (reference_part(side, pair, self._user.start) for side in (self._user.cache_after, cache))
        return None if truth is None or floor is None else (truth, floor)


def _in(dtype: torch.dtype, value: Any) -> Any:
    """A value with every tensor of floating point in it in another dtype."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if is_cache(value):
        return in_dtype(value, dtype)
    if isinstance(value, (tuple, list)):
        return type(value)(_in(dtype, part) for part in value)
    return {name: _in(dtype, part) for name, part in value.items()} if isinstance(value, dict) else value
