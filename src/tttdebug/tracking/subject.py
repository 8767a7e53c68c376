# SPDX-License-Identifier: Apache-2.0
"""What a run compares, in memory: both sides, how the port is driven, what is paired, and what both read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError, PromptError
from tttdebug.tracking.comparer import LOGITS
from tttdebug.tracking.driving import (
    Decode,
    Driver,
    EncoderDriver,
    Prefill,
    driver_of,
    is_encoder,
    refuse_lengths,
    refuse_steps,
)
from tttdebug.tracking.images import Image
from tttdebug.tracking.manifest import Unpaired
from tttdebug.tracking.opening import floor_of
from tttdebug.tracking.pairing import CachePair, Pair, PairedModules, pair_modules, pairs_from_mapping
from tttdebug.tracking.pairing_plan import PairingPlan, UserPairs, plan_pairs
from tttdebug.tracking.prompts import Input, Prompt, read_prompt

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit


@dataclass(frozen=True)
class Subject:
    """Both sides of a comparison.

    `floor` is the reference in the port's number formats, with its module at each boundary in `floor_modules`. Where
    the pairs were found, `unpaired` lists what has no counterpart and `notes` what else is to be said of them.
    """

    port: Any
    driver: Driver
    reference: Reference
    paired: Sequence[PairedModules]
    caches: Sequence[CachePair]
    prompts: Sequence[Prompt | Image]
    decode_steps: int
    floor: nn.Module
    floor_modules: Mapping[str, nn.Module]
    weights: Audit | None = None
    unpaired: Sequence[Unpaired] = ()
    notes: Sequence[str] = ()

    @property
    def reference_modules(self) -> dict[str, nn.Module]:
        """The reference's module at each boundary."""
        return {modules.pair.boundary: modules.reference for modules in self.paired}

    @property
    def port_modules(self) -> dict[str, Any]:
        """The port's module at each boundary."""
        return {modules.pair.boundary: modules.port for modules in self.paired}

    @property
    def texts(self) -> list[Prompt]:
        """The prompts that are token ids."""
        return [prompt for prompt in self.prompts if isinstance(prompt, Prompt)]

    @property
    def encodes(self) -> bool:
        """Whether the port is an encoder, which reads each input whole and predicts no tokens."""
        return isinstance(self.driver, EncoderDriver)

    @property
    def last_boundary(self) -> str:
        """The boundary of the last pair: where an encoder ends, as far as it is compared."""
        return self.paired[-1].pair.boundary

    def tokens_of(self, inputs: torch.Tensor) -> int:
        """How many positions token ids [S] or an image [C, H, W] take in the model."""
        return self.reference.context_length if inputs.is_floating_point() else len(inputs)

    def prompt_to_json(self, prompt: Prompt | Image) -> dict[str, Any]:
        """What the manifest says of a prompt."""
        kind = {"kind": "image"} if isinstance(prompt, Image) else {}
        return {"text": prompt.text, **kind, "tokens": self.tokens_of(prompt.inputs)}

    @property
    def returned_logits(self) -> bool:
        """Whether the logits are compared as the port returns them, since no module of it is paired with them."""
        return self.driver.foreign and LOGITS not in {modules.pair.boundary for modules in self.paired}

    @property
    def comparisons(self) -> int:
        """How many comparisons one run makes."""
        boundaries = len(self.paired) + len(self.caches) + self.returned_logits
        return boundaries * len(self.prompts) * (1 + self.decode_steps)


def subject_of(
    port: Any,
    reference: Reference,
    prompts: Sequence[Input],
    decode_steps: int = 0,
    *,
    prefill: Prefill | None = None,
    decode: Decode | None = None,
    together: bool = False,
    pairs: UserPairs | None = None,
    weights: Audit | None = None,
) -> Subject:
    """Both sides of a comparison that nothing has been run of yet; the arguments are those of `track`.

    Raises PromptError or PairingError for what cannot be compared.
    """
    encodes = prefill is None and is_encoder(port)
    if not encodes and reference.model.get_output_embeddings() is None:
        raise PairingError(
            f"{reference.name} gives no logits, which prefill and decode are compared by: for an encoder give the "
            "port a method encode(inputs) that takes token ids [S] or pixels [C, H, W]"
        )
    chosen, unpaired, notes = chosen_pairs(port, reference, pairs)
    driver = driver_of(port, prefill, decode, together=together)
    refuse_steps(driver, port, decode_steps)
    read = tuple(
        _as_image(reference, prompt) if reference.reads_images else read_prompt(reference, prompt, decode_steps)
        for prompt in prompts
    )
    refuse_lengths(driver, [len(prompt.inputs) for prompt in read])
    paired = tuple(pair_modules(port, reference.model, chosen))
    floor, floor_modules = floor_of(port, reference, paired, weights)
    return Subject(
        port,
        driver,
        reference,
        paired,
        tuple(getattr(port, "caches", ())),
        read,
        decode_steps,
        floor,
        floor_modules,
        weights,
        unpaired,
        notes,
    )


def _as_image(reference: Reference, prompt: Input) -> Image:
    """An image, or pixels [C, H, W], as an image."""
    import torch

    if isinstance(prompt, torch.Tensor) and prompt.ndim == 3:
        return Image(f"pixels {'x'.join(map(str, prompt.shape))}", prompt)
    if not isinstance(prompt, Image):
        raise PromptError(f"{reference.name} reads images: give each as a tensor [channels, height, width]")
    return prompt


def chosen_pairs(
    port: Any, reference: Reference, pairs: UserPairs | None
) -> tuple[Sequence[Pair], Sequence[Unpaired], Sequence[str]]:
    """The pairs that were given or that the port declares, else those found, with what they leave out and notes.

    Raises PairingError where nothing can be paired.
    """
    if pairs is None:
        pairs = getattr(port, "pairs", None)
    if isinstance(pairs, Mapping):
        return pairs_from_mapping(pairs), (), ()
    if pairs is not None and not isinstance(pairs, (str, Path, PairingPlan)):
        return pairs, (), ()
    plan = pairs if isinstance(pairs, PairingPlan) else plan_pairs(port, reference.model, pairs)
    if not plan.pairs:
        raise PairingError(
            f"no module of the {type(port).__name__} could be paired with one of {reference.name}; "
            "give pairs={boundary: (port path, reference path)}"
        )
    sides = {"port": plan.unpaired_port, "reference": plan.unpaired_reference}
    alone = [Unpaired(side, item.path, item.reason) for side, items in sides.items() for item in items]
    return plan.pairs, alone, plan.notes
