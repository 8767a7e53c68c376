# SPDX-License-Identifier: Apache-2.0
"""What each module of a port gives when all of them are fed with the reference's values: one pass, no error inherited.

T tokens of one call, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.hooks import at_same_object
from tttdebug.tracking.instance_wrapping import Wrapping, entry_points
from tttdebug.tracking.pairing import module_at, pair_modules
from tttdebug.tracking.sides import TorchSide

if TYPE_CHECKING:
    import torch

    from tttdebug.faults.site import Site
    from tttdebug.references import Reference

Outputs = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Text:
    """What is read: a prompt for each user, and of each the tokens of the decode steps after it.

    `truth` is what the reference gave: first a call for each prompt, then a call for each step, by boundary [T, C], the
    rows of a step being users.
    """

    prompts: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, ...], ...]
    truth: tuple[Mapping[str, torch.Tensor], ...]

    @classmethod
    def read(cls, reference: Reference, port: Any, prompts: Sequence[Sequence[int]], steps: int) -> Text:
        """Let the reference read the prompts, and go on with the tokens that it thinks likeliest."""
        import torch

        modules = {pair.pair.boundary: pair.reference for pair in pair_modules(port, reference.model, port.pairs)}
        side = TorchSide(reference.model, modules)
        calls = [side.prefill(prompt, user) for user, prompt in enumerate(prompts)]
        truth: list[Mapping[str, torch.Tensor]] = [_rows(call.activations) for call in calls]
        tokens = []
        for _ in range(steps):
            tokens.append(tuple(int(call.logits[-1].argmax()) for call in calls))
            calls = [side.decode(token, user) for user, token in enumerate(tokens[-1])]
            users = [_rows(call.activations) for call in calls]
            truth.append({name: torch.cat([rows[name] for rows in users]) for name in users[0]})
        return cls(tuple(map(tuple, prompts)), tuple(tokens), tuple(truth))


def _rows(activations: Mapping[str, torch.Tensor]) -> Outputs:
    return {name: values.reshape(-1, values.shape[-1]) for name, values in activations.items()}


def isolated_outputs(port: Any, text: Text) -> list[Outputs]:
    """Of each call, what every module gave when fed with the reference's values [T, C], and the whole caches after it.

    The values come in bfloat16, as the port's own would.
    """
    import torch

    modules = {pair.boundary: module_at(port, pair.port, pair.boundary) for pair in port.pairs}
    got: list[Outputs] = []
    wrapping = Wrapping()
    try:
        for module, boundaries in at_same_object(modules):
            once = _Once(port, boundaries[0], text, got)
            for name, entry in entry_points(module, boundaries[0]).items():
                wrapping.put(module, name, once.instead_of(entry), boundaries[0])
        longest = max(map(len, text.prompts))
        port.allocate_cache(len(text.prompts), longest + len(text.steps))
        for user, prompt in enumerate(text.prompts):
            got.append({})
            port.prefill(torch.tensor(prompt), user)
        for step, tokens in enumerate(text.steps):
            got.append({})
            port.decode(torch.tensor(tokens), torch.tensor([len(prompt) + step for prompt in text.prompts]))
    finally:
        wrapping.undo()
    return got


class _Once:
    """Keeps what one module gives and hands the reference's values on instead."""

    def __init__(self, port: Any, boundary: str, text: Text, got: list[Outputs]) -> None:
        self._port, self._boundary, self._text, self._got = port, boundary, text, got
        self._caches = [pair for pair in port.caches if pair.after == boundary]
        self._inside = False

    def instead_of(self, entry: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(entry)
        def listen(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return entry(*args, **kwargs)
            self._inside = True
            try:
                return self._exchanged(entry(*args, **kwargs))
            finally:
                self._inside = False

        return listen

    def _exchanged(self, output: Any) -> Any:
        ttnn, here = self._port.ttnn, self._got[-1]
        for pair in self._caches:
            here[pair.boundary] = ttnn.to_torch(module_at(self._port, pair.port, pair.boundary)).float()
        if isinstance(output, tuple):  # a router's: what it decides is part of its mixture
            return output
        values = ttnn.to_torch(output).float()
        truth_TC = self._text.truth[len(self._got) - 1][self._boundary]
        rows = values.reshape(-1, values.shape[-1])
        here[self._boundary] = rows[: len(truth_TC), : truth_TC.shape[-1]].clone()
        rows = rows.clone()
        rows[: len(truth_TC), : truth_TC.shape[-1]] = truth_TC
        rows[len(truth_TC) :] = rows[len(truth_TC) - 1]  # padding, which must not tell of the module either
        return ttnn.from_torch(
            rows.reshape(values.shape),
            dtype=output.dtype,
            layout=output.layout,
            device=output.device(),
            memory_config=output.memory_config(),
        )


@dataclass(frozen=True)
class Effect:
    """How much a fault changes what its module gives, in the call where that is most in units of the format error.

    `rel_l2` is ‖faulty − healthy‖ / ‖healthy‖, `format_error` ‖healthy − reference‖ / ‖reference‖; `changed` are the
    boundaries whose output is not the same bits.
    """

    rel_l2: float
    format_error: float
    changed: frozenset[str]

    @property
    def ratio(self) -> float:
        return self.rel_l2 / self.format_error if self.format_error else math.inf


def effect(site: Site, text: Text, healthy: Sequence[Outputs], faulty: Sequence[Outputs]) -> Effect:
    """The effect of a fault at `site` on isolated outputs."""
    import torch

    changed = {
        name
        for sound, bad in zip(healthy, faulty, strict=True)
        for name in sound
        if not torch.equal(sound[name], bad[name])
    }
    effects = []
    for truth, sound, bad in zip(text.truth, healthy, faulty, strict=True):
        error = max(_rel_l2(sound[site.boundary], truth[site.boundary]), 1e-6)
        moved = max(_rel_l2(bad[name], sound[name]) for name in (site.boundary, *site.caches))
        effects.append(Effect(moved, error, frozenset(changed)))
    return max(effects, key=lambda found: found.ratio)


def _rel_l2(values: torch.Tensor, truth: torch.Tensor) -> float:
    if not bool(values.isfinite().all()):
        return math.inf
    difference, norm = float((values.double() - truth.double()).norm()), float(truth.double().norm())
    return difference / norm if norm else math.inf if difference else 0.0
