# SPDX-License-Identifier: Apache-2.0
"""Examining a port's modules alone: a record for each, which of them are at fault, and their calls for experiments.

T tokens, C channels, K key/value heads, E head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.anatomy import Anatomy, other_layers
from tttdebug.analysis.held_weights import HeldWeight, wrong_weights
from tttdebug.analysis.isolated import NotAlone, OwnOutput, isolated_outputs
from tttdebug.analysis.margins import Margins
from tttdebug.analysis.module_call import KeysValues, ModuleCall
from tttdebug.analysis.own_error import OF_FORMATS, OF_TWIN, OwnError, own_error
from tttdebug.analysis.port_caches import read_behind, reference_part, round_cache
from tttdebug.analysis.small_errors import NEAR, SmallErrors
from tttdebug.analysis.undecided import decided_tokens
from tttdebug.specs import MixtureOfExpertsSpec
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.calls import known_call
from tttdebug.tracking.images import Image
from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.part_errors import with_parts
from tttdebug.tracking.prompts import Prompt
from tttdebug.tracking.record import Key, Record, metrics_of
from tttdebug.tracking.reference_calls import TorchCall
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ISOLATED
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.torch_cache import fork

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, "float | None"], None]
FAR_ABOVE = {"prefill": 5.0, "decode": 2.0}
"""Times its limit an error that is no accident of one prompt, or of one step."""

KEPT_CALLS = {"prefill": 2, "decode": 4}
"""Calls of one boundary whose tensors are kept for experiments, those of the first users and steps."""


@dataclass
class Examination:
    """What the modules do alone. `at_fault` are the boundaries that err more than their formats, in their order, and
    `small` what those are off that err a little beside a twin.
    """

    errors: dict[Key, OwnError] = field(default_factory=dict)
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)
    at_fault: dict[str, list[Key]] = field(default_factory=dict)
    not_alone: dict[str, str] = field(default_factory=dict)
    small: SmallErrors = field(default_factory=SmallErrors)


class Examiner:
    """Runs a port's modules alone over the run's prompts and some more, and judges them."""

    def __init__(self, subject: Subject, anatomy: Anatomy, run: ReopenedRun, twin: Subject | None = None) -> None:
        """`twin` is the same port on the emulator, sound, whose modules are the floor then."""
        self._subject = subject
        self._twin = twin
        self._tolerance = OF_FORMATS if twin is None else OF_TWIN
        self._anatomy = anatomy
        self._run = run
        self._pairs: Mapping[str, PairedModules] = {modules.pair.boundary: modules for modules in subject.paired}
        self._caches = {pair.boundary: pair for pair in subject.caches}
        self._margins = Margins(by_kind=twin is None)  # beside a twin sound modules are off by next to nothing
        self._fresh: dict[tuple[str, int, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._held: dict[str, Mapping[str, HeldWeight] | None] = {}
        self.found = Examination()

    def examine(self, more: Sequence[Prompt | Image], progress: Progress) -> Examination:
        """Examine every call of the run, and the prefill of `more` prompts, which make the margins surer."""
        if more:
            port, twin = (
                None if side is None else replace(side, prompts=tuple(more), decode_steps=0)
                for side in (self._subject, self._twin)
            )
            assert port is not None
            isolated_outputs(port, self._measure, progress, twin=twin)
        isolated_outputs(self._subject, self._note, progress, twin=self._twin)
        self._judge()
        return self.found

    def _measure(self, output: OwnOutput | NotAlone) -> None:
        if isinstance(output, OwnOutput):
            error = self._own_error(output)
            self._margins.add(output.boundary, -1 - output.user.user, error.ratio)

    def _note(self, output: OwnOutput | NotAlone) -> None:
        """Write the record of one output, and keep what experiments need where it looks wrong."""
        if isinstance(output, NotAlone):
            self.found.not_alone[output.boundary] = output.reason
            return
        turn, user = output.turn, output.user
        key = Key(output.boundary, turn.phase, turn.step, user.user, ISOLATED)
        error = self._own_error(output)
        self.found.errors[key] = error
        if self._twin is not None and output.boundary not in self._caches:
            self.found.small.note(key, output, error)
        if turn.phase == "prefill":
            self._margins.add(output.boundary, user.user, error.ratio)
        if output.boundary in self._caches:
            self._fresh[(output.boundary, user.user, turn.phase)] = (
                output.aligned.reference_TC,
                output.aligned.port_TC,
            )
        cache = self._caches.get(output.boundary)
        profile = with_parts(error.comparison.profile, output.aligned, keys=cache is not None and cache.part == "keys")
        self._run.append(self._record(key, output, error), profile)
        self._keep(key, output, error)

    def _own_error(self, output: OwnOutput) -> OwnError:
        """Of all tokens, or of a mixture of experts those whose experts are not a matter of rounding.

        Where no token of a mixture is decided nothing is known of its floor.
        """
        sides = (output.aligned.reference_TC, output.aligned.port_TC, output.floor_TC)
        decided_T = self._decided(output)
        if decided_T is None or bool(decided_T.all()):
            return own_error(*sides, self._tolerance)
        if not bool(decided_T.any()):
            return own_error(*sides[:2], None)
        reference_TC, port_TC, floor_TC = sides
        return own_error(reference_TC[decided_T], port_TC[decided_T], None if floor_TC is None else floor_TC[decided_T])

    def _decided(self, output: OwnOutput) -> torch.Tensor | None:
        """The tokens of a mixture whose experts are decided; None of any other module."""
        modules = self._pairs.get(first_call_of(output.boundary))
        part = self._anatomy.part_at(modules.pair.reference) if modules else None
        if part is None or not isinstance(part.spec, MixtureOfExpertsSpec):
            return None
        for name in output.parts:
            logits = output.user.calls[name].output_tensor
            if logits.shape[-1] == part.spec.num_experts:
                key = Key(name, output.turn.phase, output.turn.step, output.user.user, ISOLATED)
                floor = self.found.errors[key].floor if key in self.found.errors else math.nan
                return decided_tokens(part.spec, part.weights, logits.flatten(0, -2), floor)
        return None

    def _record(self, key: Key, output: OwnOutput, error: OwnError) -> Record:
        modules, cache = self._pairs.get(first_call_of(output.boundary)), self._caches.get(output.boundary)
        return Record(
            boundary=key.boundary,
            mode=key.mode,
            phase=key.phase,
            step=key.step,
            user=key.user,
            verdict="nonfinite" if not error.comparison.nonfinite_masks_agree else "ok",
            floor_rel_l2=error.floor,
            module=modules.pair.port if modules else cache.port if cache else "",
            reference_path=modules.pair.reference if modules else f"({cache.part} in its cache)" if cache else "",
            dtype="",
            adapters=output.aligned.adapters,
            engine=self._run.manifest.device["engine"],
            seconds=output.seconds,
            note=f"rel_l2 {error.unexplained:.3g} from what its formats give, sound ones stay below {error.limit:.3g}",
            **metrics_of(error.comparison),
        )

    def _keep(self, key: Key, output: OwnOutput, error: OwnError) -> None:
        """Keep the tensors of a call that looks wrong, or whose caches do: of the first ones only."""
        if key.boundary in self._caches:
            return
        kept = self.found.calls.setdefault(key.boundary, [])
        if sum(call.key.phase == key.phase for call in kept) >= KEPT_CALLS[key.phase]:
            return
        caches = (replace(key, boundary=pair.boundary) for pair in self._subject.caches if pair.after == key.boundary)
        is_near = self._twin is not None and key.phase == "prefill" and error.ratio > NEAR
        if is_near or any(
            self._is_suspect(of, self.found.errors[of]) for of in (key, *caches) if of in self.found.errors
        ):
            kept.append(self._module_call(key, output, error))

    def _is_suspect(self, key: Key, error: OwnError) -> bool:
        limit = self._margins.limit(key.boundary) if key.phase == "prefill" else 1.0
        return not error.ratio <= limit or not error.comparison.nonfinite_masks_agree

    def _module_call(self, key: Key, output: OwnOutput, error: OwnError) -> ModuleCall:
        import torch

        modules = self._pairs[first_call_of(key.boundary)]
        part = self._anatomy.part_at(modules.pair.reference)
        known = known_call(key.boundary, output.user.calls)
        assert known is not None  # else there were no output
        truth, tokens = output.user.calls[known], output.user.tokens
        return ModuleCall(
            key=key,
            kind=part.kind if part else "other",
            spec=part.spec if part else None,
            weights=part.weights if part else {},
            formats=part.formats if part else {},
            input_TD=_read(output, known, truth),
            reference_TC=output.aligned.reference_TC,
            port_TC=output.aligned.port_TC,
            floor_rel_l2=error.floor,
            positions_T=torch.arange(output.user.start, output.user.start + tokens),
            past=self._past(key.boundary, output),
            behind=self._behind(key.boundary, output),
            past_of_layer=partial(self._past_of_layer, key.boundary, output),
            port_fresh=self._fresh_of(key, 1),
            reference_fresh=self._fresh_of(key, 0),
            parts={name.rpartition(".")[2]: values for name, values in output.parts.items()},
            layer=part.layer if part else None,
            weights_of_layer=other_layers(self._anatomy, part) if part else lambda layer: None,
            held=self._held_at(modules.pair.port),
            module=modules.pair.port,
            reference_path=modules.pair.reference,
        )

    def _held_at(self, path: str) -> Mapping[str, HeldWeight] | None:
        """The weights of a module that are not what the port declares, read from the device once."""
        if path not in self._held:
            self._held[path] = wrong_weights(self._subject.port, path, self._subject.reference.model.state_dict())
        return self._held[path]

    def _past(self, boundary: str, output: OwnOutput) -> KeysValues | None:
        """The reference's cache before the call."""
        if not output.user.start:
            return None
        return self._in_cache(output.user.cache_before, boundary)

    def _behind(self, boundary: str, output: OwnOutput) -> KeysValues | None:
        """What stands in the port's cache behind the call's own tokens: nothing that a query should see."""
        user, held = output.user, dict[str, "torch.Tensor | None"]()
        for pair in self._subject.caches if user.start else ():
            if pair.after == boundary:
                held[pair.part] = read_behind(self._subject, pair, user.cache_after, user.row, user.start + user.tokens)
        return self._keys_values(held, boundary)

    def _past_of_layer(self, boundary: str, output: OwnOutput, layer: int) -> KeysValues | None:
        """What an attention finds in the reference's cache of another layer; None beyond the last, or where none is."""
        own = next((pair.layer for pair in self._subject.caches if pair.after == boundary), None)
        other = next((pair.after for pair in self._subject.caches if pair.layer == layer), None)
        if own is None or other is None:
            return None
        return self._in_cache(output.user.cache_after if layer < own else output.user.cache_before, other)

    def _in_cache(self, cache: Any, boundary: str) -> KeysValues | None:
        """The keys and values of one attention's layer in a cache of the reference, as the port's format keeps them."""
        kept, held = fork(cache), dict[str, "torch.Tensor | None"]()
        for pair in self._subject.caches:
            if pair.after == boundary:
                round_cache(self._subject, pair, kept)
                held[pair.part] = reference_part(kept, pair)
        return self._keys_values(held, boundary)

    def _fresh_of(self, key: Key, side: int) -> KeysValues | None:
        """What the call wrote into the cache, of one side."""
        held: dict[str, torch.Tensor | None] = {
            pair.part: self._fresh[(pair.boundary, key.user, key.phase)][side][None]
            for pair in self._subject.caches
            if pair.after == key.boundary and (pair.boundary, key.user, key.phase) in self._fresh
        }
        return self._keys_values(held, key.boundary)

    def _keys_values(self, held: Mapping[str, torch.Tensor | None], boundary: str) -> KeysValues | None:
        keys, values = held.get("keys"), held.get("values")
        part = self._anatomy.part_at(self._pairs[first_call_of(boundary)].pair.reference)
        heads = getattr(part.spec, "num_kv_heads", None) if part else None
        if keys is None or values is None or heads is None:
            return None
        return KeysValues(*(side[0].unflatten(-1, (heads, -1)).transpose(0, 1) for side in (keys, values)))

    def _judge(self) -> None:
        """Settle the verdicts: prefill by the margins over prompts, decode by the limit of each step.

        What is far above it counts wherever it is: one user's slot, or one long prompt, may be wrong alone.
        """
        for key, error in self.found.errors.items():
            surely = error.ratio > FAR_ABOVE[key.phase] or (
                self._margins.is_at_fault(key.boundary) if key.phase == "prefill" else self._is_so_in_decode(key)
            )
            if (surely and self._is_suspect(key, error)) or not error.comparison.nonfinite_masks_agree:
                self.found.at_fault.setdefault(key.boundary, []).append(key)

    def _is_so_in_decode(self, key: Key) -> bool:
        """Whether a module is above its limit over all steps together: single tokens scatter."""
        steps = [
            error.ratio
            for other, error in self.found.errors.items()
            if (other.boundary, other.phase, other.user) == (key.boundary, key.phase, key.user)
        ]
        return sum(steps) / len(steps) > 1


def _read(output: OwnOutput, known: str, truth: TorchCall) -> torch.Tensor:
    """What a module read: ids or an image as they are, else [T, D]; for the end of a model what its last part gave."""
    if not output.user.reads_inputs(known):
        return truth.input.flatten(0, -2)
    return list(output.parts.values())[-1] if output.parts else truth.input
