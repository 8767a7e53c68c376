# SPDX-License-Identifier: Apache-2.0
"""Cases of a self-test, each drawn from one seed: a model, a prompt, and a port with a fault or a harmless change."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

from tttdebug.backends import open_device
from tttdebug.faults.catalogue import FAULTS, inject, sites
from tttdebug.faults.harmless import HARMLESS, Harmless
from tttdebug.faults.isolation import Effect, Text, effect, isolated_outputs
from tttdebug.faults.site import Fault, Site
from tttdebug.faults.small_models import SMALL_FAMILIES, small_model
from tttdebug.modules.build import build_model

if TYPE_CHECKING:
    from tttdebug.references import Reference

PRECISIONS = ("accuracy", "performance", "bf16")
SMALLEST_EFFECT = 1.0
"""A fault that changes its module's output by less than this times what the number formats do matters to nobody."""
_TRIES = 200
REAL = "smollm2"


@dataclass(frozen=True)
class Setting:
    """What a port is made of and what both sides read. `family` is `REAL` for SmolLM2's own weights."""

    family: str
    seed: int
    layers: int
    precision: str
    prompts: tuple[tuple[int, ...], ...]
    decode_steps: int

    @property
    def reference(self) -> Reference:
        return _reference(self.family, self.seed, self.layers)

    def sound_port(self) -> Any:
        return build_model(self.reference, open_device("emulated"), self.precision)

    def __str__(self) -> str:
        tokens = " and ".join(str(len(prompt)) for prompt in self.prompts)
        return f"{self.family}, {self.layers} layers, {self.precision}, {tokens} tokens, {self.decode_steps} steps"


@dataclass(frozen=True)
class FaultyCase:
    """A port with a fault that is worth finding. `too_small` counts the faults drawn before it that were not."""

    seed: int
    setting: Setting
    fault: Fault
    port: Any
    site: Site
    effect: Effect
    too_small: int


@dataclass(frozen=True)
class HarmlessCase:
    """A port that is sound."""

    seed: int
    setting: Setting
    change: Harmless
    port: Any


def faulty_case(seed: int, names: tuple[str, ...] = (), families: tuple[str, ...] = ()) -> FaultyCase:
    """The case of a seed, among faults and families of these names where any are given.

    Every draw until a fault fits its model and matters comes from the seed too. Raises RuntimeError when none does.
    """
    draw = random.Random(seed)
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    too_small = 0
    fault = draw.choice(faults)
    for _ in range(_TRIES):
        setting = _setting(draw, families, fault.users, fault.steps)
        port, where = setting.sound_port(), draw.getrandbits(31)
        if not sites(port, fault):
            continue
        text = Text.read(setting.reference, port, setting.prompts, setting.decode_steps)
        healthy = isolated_outputs(port, text)
        measured = setting.sound_port()
        site = inject(measured, fault.name, where)
        found = effect(site, text, healthy, isolated_outputs(measured, text))
        if found.ratio < SMALLEST_EFFECT:
            too_small += 1
            fault = draw.choice(faults)
            continue
        inject(port, fault.name, where)
        return FaultyCase(seed, setting, fault, port, site, found, too_small)
    raise RuntimeError(f"case {seed}: {_TRIES} draws gave no fault that fits and matters; last was {fault.name}")


def harmless_case(seed: int, names: tuple[str, ...] = (), families: tuple[str, ...] = ()) -> HarmlessCase:
    """The sound port of a seed."""
    draw = random.Random(seed)
    change = draw.choice([change for change in HARMLESS if not names or change.name in names])
    setting = _setting(draw, families, change.users, 0, change.tokens)
    port = change.build(setting.reference, open_device("emulated", engine=change.engine), setting.precision)
    return HarmlessCase(seed, setting, change, port)


def _setting(
    draw: random.Random, families: tuple[str, ...], users: int, steps: int, tokens: int | None = None
) -> Setting:
    real = draw.random() < 0.5
    family = draw.choice(families) if families else REAL if real else draw.choice(SMALL_FAMILIES)
    layers = draw.choice((3, 4, 5)) if family == REAL else draw.choice((2, 3))
    seed = 0 if family == REAL else draw.getrandbits(16)
    ids = _text_of(family, seed, layers)
    prompts = []
    for _ in range(users):
        length = draw.randint(33, 96) if tokens is None else tokens
        start = draw.randrange(len(ids) - length)
        prompts.append(ids[start : start + length])
    return Setting(family, seed, layers, draw.choice(PRECISIONS), tuple(prompts), max(steps, draw.choice((2, 3))))


@lru_cache(maxsize=4)
def _reference(family: str, seed: int, layers: int) -> Reference:
    from tttdebug.references import load_reference

    return load_reference(REAL, layers=layers) if family == REAL else load_reference(small_model(family, seed, layers))


@lru_cache(maxsize=4)
def _text_of(family: str, seed: int, layers: int) -> tuple[int, ...]:
    """Prose and code of Python's own documentation as token ids; the bytes themselves where there is no tokenizer."""
    text, reference = max(topics.values(), key=len), _reference(family, seed, layers)
    if reference.tokenizer is None:
        return tuple(text.encode("utf-8"))
    return tuple(reference.tokenizer.encode(text, verbose=False))
