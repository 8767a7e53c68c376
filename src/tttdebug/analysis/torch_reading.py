# SPDX-License-Identifier: Apache-2.0
"""What a torch model ends in for one user's part of a call: a language model's logits, an encoder's last output.

S tokens, or C channels, H height and W width of an image; T positions, V channels of the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tttdebug.tracking.hooks import ReferenceTap
from tttdebug.tracking.pairing import reference_elements
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.torch_cache import cache_argument, fork
from tttdebug.tracking.truth import encoded

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model gave, and its cache then."""

    end_TV: torch.Tensor
    cache: Any


class Reader(Protocol):
    """One side in torch, call after call."""

    def going_on(self, cache: Any | None) -> Any:
        """The cache for a call after the one that left `cache`, which stays as it is; for a first call without."""
        ...

    def read(self, inputs: torch.Tensor, cache: Any) -> Reading:
        """Token ids [S] behind what the cache holds, or an image [C, H, W]."""
        ...


class LanguageReader:
    """Reads token ids, and keeps keys and values from call to call."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._name = cache_argument(model)

    def going_on(self, cache: Any | None) -> Any:
        from transformers import DynamicCache

        return DynamicCache() if cache is None else fork(cache)

    def read(self, inputs: torch.Tensor, cache: Any) -> Reading:
        output = self._model(input_ids=inputs[None], use_cache=True, **{self._name: cache})
        return Reading(output.logits[0], getattr(output, self._name))


class EncoderReader:
    """Reads sentences or images, each for itself; its end is what the module at one boundary gives last."""

    def __init__(self, model: nn.Module, end: Mapping[str, nn.Module], elements: Mapping[str, int | str]) -> None:
        self._model, self._end, self._elements = model, end, elements

    def going_on(self, cache: Any | None) -> Any:
        return None

    def read(self, inputs: torch.Tensor, cache: Any) -> Reading:
        with ReferenceTap(self._end, self._elements) as tap:
            encoded(self._model, inputs)
        *_, output = tap.outputs().values()
        return Reading(output.reshape(-1, output.shape[-1]), None)


def reader_of(subject: Subject, model: nn.Module, modules: Mapping[str, nn.Module]) -> Reader:
    """How a torch side of a comparison is read; `modules` are its own at each boundary."""
    if not subject.encodes:
        return LanguageReader(model)
    end = subject.last_boundary
    return EncoderReader(model, {end: modules[end]}, reference_elements(subject.paired))
