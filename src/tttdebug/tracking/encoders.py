# SPDX-License-Identifier: Apache-2.0
"""Tracking an encoder beside its reference: every sentence or image once, every boundary compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.tracking.calls import Call, UserCall
from tttdebug.tracking.comparer import Comparer
from tttdebug.tracking.floor import FloorError
from tttdebug.tracking.goldens import Goldens
from tttdebug.tracking.hooks import ReferenceTap
from tttdebug.tracking.opening import floors_of
from tttdebug.tracking.pairing import reference_elements
from tttdebug.tracking.sides import Forward
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.writer import RunWriter

if TYPE_CHECKING:
    import torch
    from torch import nn

Progress = Callable[[str, "float | None"], None]


class Encodings:
    """The comparison of an encoder: one call an input."""

    def __init__(self, subject: Subject, goldens: Goldens, writer: RunWriter, progress: Progress) -> None:
        self._subject = subject
        self._goldens = goldens
        self._progress = progress
        self.comparer = Comparer(subject.port, subject.paired, (), writer)

    def run(self) -> None:
        """Every input through the reference, the floor and the port."""
        subject, prompts = self._subject, self._subject.prompts
        elements = reference_elements(subject.paired)
        for user, prompt in enumerate(prompts):
            self._progress(f"input {user + 1} of {len(prompts)}", user / len(prompts))
            run = partial(
                _encoding, subject.reference.model, subject.reference_modules, inputs=prompt.inputs, elements=elements
            )
            truth = self._goldens.forward(user, (), run)
            floor = _encoding(subject.floor, subject.floor_modules, prompt.inputs, elements)
            # a sentence is compared whole, however short
            floors = {
                boundary: FloorError(error.rel_l2, error.rel_l2)
                for boundary, error in floors_of(floor.activations, truth.activations).items()
            }
            part = UserCall((), 0, truth.activations, floors, adapters=truth.adapters)
            self.comparer.expect(Call("prefill", 0, {user: part}))
            subject.driver.prefill(prompt.inputs[None], user)
            self.comparer.settle()

    def conclude(self) -> None:
        """An encoder predicts no tokens, so that there is nothing to say of a run as a whole."""


def _encoding(
    model: nn.Module, modules: Mapping[str, nn.Module], inputs: torch.Tensor, elements: Mapping[str, int | str]
) -> Forward:
    """One call of the model."""
    import torch

    with torch.no_grad(), ReferenceTap(modules, elements) as tap:
        encoded(model, inputs)
        return Forward(None, tap.outputs(), tap.adapters())


def encoded(model: nn.Module, inputs: torch.Tensor) -> object:
    """What a torch encoder gives for token ids [S], or pixels [C, H, W] in the model's dtype."""
    if inputs.is_floating_point():
        inputs = inputs.to(next(model.parameters()).dtype)
    return model(inputs[None])
