# SPDX-License-Identifier: Apache-2.0
"""What a run compares, in memory: both sides, how the port is driven, what is paired, and what both read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.comparer import LOGITS
from tttdebug.tracking.driving import Decode, Driver, Prefill, driver_of, refuse_lengths, refuse_steps
from tttdebug.tracking.manifest import Unpaired
from tttdebug.tracking.opening import floor_of
from tttdebug.tracking.pairing import CachePair, Pair, PairedModules, pair_modules, pairs_from_mapping
from tttdebug.tracking.pairing_plan import PairingPlan, UserPairs, plan_pairs
from tttdebug.tracking.prompts import Input, Prompt, read_prompt

if TYPE_CHECKING:
    from torch import nn

    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit


@dataclass(frozen=True)
class Subject:
    """Both sides of a comparison of a language model.

    `floor` is the reference in the port's number formats, with its module at each boundary in `floor_modules`. Where
    the pairs were found, `unpaired` lists what has no counterpart and `notes` what else is to be said of them.
    """

    port: Any
    driver: Driver
    reference: Reference
    paired: Sequence[PairedModules]
    caches: Sequence[CachePair]
    prompts: Sequence[Prompt]
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
    if reference.model.get_output_embeddings() is None:
        raise PairingError(
            f"{reference.name} gives no logits, which prefill and decode are compared by: for an encoder give the "
            "port a method encode(inputs) that takes token ids [S] or pixels [C, H, W]"
        )
    chosen, unpaired, notes = chosen_pairs(port, reference, pairs)
    driver = driver_of(port, prefill, decode, together=together)
    refuse_steps(driver, port, decode_steps)
    read = tuple(read_prompt(reference, prompt, decode_steps) for prompt in prompts)
    refuse_lengths(driver, [len(prompt.token_ids) for prompt in read])
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
