# SPDX-License-Identifier: Apache-2.0
"""Variants of a module's twin that give what the port gave, where the port errs by little more than rounding.

What a coarser kernel setting does to an output is itself rounding, which no mathematics foretells: so the twin's own
module is run again on the same input, in each coarser setting than is declared, and with the weights that the port's
device holds where an audit finds them wrong. T tokens, C channels.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.held_weights import wrong_weights
from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.hypotheses.of_held_weights import named_matrices, said_of
from tttdebug.analysis.hypotheses.of_norms import USUAL_EPS
from tttdebug.analysis.isolated import Feeding, NotAlone, OwnOutput
from tttdebug.analysis.own_floor import SoundOutputs
from tttdebug.analysis.small_errors import SmallError
from tttdebug.analysis.turns import turns
from tttdebug.backends import to_torch
from tttdebug.modules.hardware import FIDELITIES, ComputeKernel
from tttdebug.modules.layer_norm import LayerNorm
from tttdebug.modules.module import TTModule, held_at
from tttdebug.modules.rms_norm import RMSNorm
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ISOLATED
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import PortCall, Substitution

if TYPE_CHECKING:
    import torch

EXPLAINS = 0.25
"""A variant explains an error that it takes all but a quarter away from, over all calls that were kept."""
OF_A_KIND = 4  # modules that are tried, the first ones

_PHASES = ("_decode", "_prefill")
_WORDS = {
    "li_qkv": "the product to queries, keys and values",
    "li_o": "the product out of the heads",
    "sdpa": "attention's products and sums",
    "li_ff1_ff3": "the products of gate and up",
    "li_ff2": "the product of down",
    "li_lm_head": "the product to logits",
    "norms": "the norm",
}


@dataclass(frozen=True)
class Variant:
    """A module of the twin that is otherwise than declared, why the port's may be so, and what it gave in each call."""

    cause: str
    says: str
    fix: Fix
    module: TTModule[Any]
    gave: dict[Key, torch.Tensor] = field(default_factory=dict)

    def left(self, errors: Sequence[SmallError]) -> float:
        """The squared error that is left of all; inf where it was not seen in each of these calls."""
        return math.fsum(self.left_in(error) ** 2 for error in errors)

    def left_in(self, error: SmallError) -> float:
        return rel_l2(error.port_TC, self.gave[error.key]) if error.key in self.gave else math.inf


def other_twins(
    subject: Subject,
    twin: Subject,
    errors: Mapping[str, Sequence[SmallError]],
    progress: Callable[[str, float | None], None],
) -> list[Finding]:
    """A finding for each module whose small errors a variant of its twin makes too.

    Of more modules of one kind only the first few are tried.
    """
    kinds = Counter[str]()
    tried: dict[str, list[Variant]] = {}
    for boundary in errors:
        first = first_call_of(boundary)
        module = twin.port_modules[first]
        kinds[kind_of(boundary)] += 1
        if isinstance(module, TTModule) and kinds[kind_of(boundary)] <= OF_A_KIND:
            sources = (weights_as_held(subject, first, module), coarser_settings(module), other_epsilons(module))
            tried[boundary] = list(itertools.chain(*sources))
    wanted = {error.key for boundary in tried for error in errors[boundary]}
    _Trying(twin, tried, wanted).run(progress)
    found = []
    for boundary, variants in tried.items():
        variant = min(variants, key=lambda variant: variant.left(errors[boundary]), default=None)
        before = math.fsum(error.rel_l2**2 for error in errors[boundary])
        if variant is not None and variant.left(errors[boundary]) <= EXPLAINS**2 * before:
            found.append(_finding(boundary, variant, errors[boundary], twin))
    return found


def weights_as_held(subject: Subject, boundary: str, module: TTModule[Any]) -> Iterator[Variant]:
    """The twin's `module` with the weights of the port's, where some of these are wrong and it is known in what."""
    path = next(each.pair.port for each in subject.paired if each.pair.boundary == boundary)
    wrong = wrong_weights(subject.port, path, subject.reference.model.state_dict()) or {}
    named = named_matrices(wrong)
    of_port = subject.port_modules[boundary]
    places = {
        place: held_at(of_port, place)
        for place, names in (of_port.places().items() if isinstance(of_port, TTModule) else ())
        if any(name in wrong for name in names)
    }
    if named and places:
        cause, says, fix = said_of(named)
        yield Variant(cause, says, fix, module.with_placed({at: to_torch(held) for at, held in places.items()}))


def coarser_settings(module: TTModule[Any]) -> Iterator[Variant]:
    """Each kernel of a module, and all its products together, with sums in bfloat16 or at a lower fidelity."""
    groups = [list(names) for _, names in groupby(sorted(module.KERNELS, key=_group), _group)]
    products = [name for names in groups for name in names if name.startswith("li_")]
    if products not in groups and products:
        groups.append(products)
    for names in groups:
        declared = {name: getattr(module.hw_config, name) for name in names}
        what = " and ".join(dict.fromkeys(_WORDS[_group(name)] for name in names))
        with_fp32 = {name: kernel for name, kernel in declared.items() if kernel.fp32_dest_acc_en}
        if with_fp32:
            yield Variant(
                "accumulation_low",
                f"{what}: sums are kept in bfloat16, fp32 is declared",
                Fix("add up in fp32", "compute_kernel_config=..., fp32_dest_acc_en=True"),
                module.with_kernels(
                    **{name: replace(each, fp32_dest_acc_en=False) for name, each in with_fp32.items()}
                ),
            )
        for fidelity in FIDELITIES:
            coarser = {name: kernel for name, kernel in declared.items() if _is_coarser(fidelity, kernel)}
            if coarser:
                own = next(iter(coarser.values())).math_fidelity
                yield Variant(
                    "fidelity_low",
                    f"{what}: {fidelity}, {own} is declared",
                    Fix(f"multiply at {own}", f"math_fidelity=ttnn.MathFidelity.{own}"),
                    module.with_kernels(
                        **{name: replace(each, math_fidelity=fidelity) for name, each in coarser.items()}
                    ),
                )


def other_epsilons(module: TTModule[Any]) -> Iterator[Variant]:
    """A norm with each usual epsilon but its own."""
    if not isinstance(module, (RMSNorm, LayerNorm)):
        return
    own, here = module.spec, (module.weights, module.device, module.hw_config)
    for eps in USUAL_EPS:
        if eps != own.eps:
            fix = Fix(f"set epsilon to {own.eps:g}", f"ttnn.rms_norm(x, weight=gain, epsilon={own.eps:g})")
            other = type(module)(replace(own, eps=eps), *here)
            yield Variant("norm_eps", f"epsilon is {eps:g} instead of {own.eps:g}", fix, other)


def _group(name: str) -> str:
    """The name of a kernel's settings without the phase."""
    for phase in _PHASES:
        name = name.removesuffix(phase)
    return name


def _is_coarser(fidelity: str, kernel: ComputeKernel) -> bool:
    return FIDELITIES.index(fidelity) > FIDELITIES.index(kernel.math_fidelity)


class _Trying:
    """The twin's calls made again; at each module that is asked about, its variants run on the reference's input."""

    def __init__(self, twin: Subject, tried: Mapping[str, Sequence[Variant]], wanted: set[Key]) -> None:
        self._twin, self._tried, self._wanted = twin, tried, wanted
        self._composition = Composition(twin.paired)
        self._feeding = Feeding(twin, self._composition, self._tell)
        self._variant: Variant | None = None

    def run(self, progress: Callable[[str, float | None], None]) -> None:
        """Make the calls up to the last one that is asked about."""
        waiting = set(self._wanted)
        calls = turns(self._twin, reference_cache=True)
        while waiting:
            turn = next(calls)
            progress(f"other twins: {turn.phase} {turn.step + 1}", None)
            floors = {user: SoundOutputs(self._twin, self._composition, part, {}) for user, part in turn.users.items()}
            with Substitution(self._twin.port_modules, self) as substitution:
                self._feeding.start(turn, floors)
                substitution.start_call()
                turn.run()
                self._feeding.finish()
            waiting = {
                key for key in waiting if (key.phase, key.step) != (turn.phase, turn.step) or key.user not in turn.users
            }

    def before(self, call: PortCall) -> PortCall:
        return self._feeding.before(call)

    def after(self, call: PortCall, output: Any) -> Any:
        """Let the variants give theirs to the same call; the twin's own output goes on."""
        for variant in self._tried.get(call.boundary, ()):
            self._variant = variant
            if hasattr(variant.module, "cache"):
                variant.module.cache = self._twin.port_modules[first_call_of(call.boundary)].cache
            self._feeding.after(call, getattr(variant.module, call.entry)(*call.args, **call.kwargs))
            call = self._feeding.before(call)
        self._variant = None
        return self._feeding.after(call, output)

    def _tell(self, output: OwnOutput | NotAlone) -> None:
        if self._variant is None or not isinstance(output, OwnOutput):
            return
        key = Key(output.boundary, output.turn.phase, output.turn.step, output.user.user, ISOLATED)
        if key in self._wanted:
            self._variant.gave[key] = output.aligned.port_TC.float()


def _finding(boundary: str, variant: Variant, errors: Sequence[SmallError], twin: Subject) -> Finding:
    pair = next(each.pair for each in twin.paired if each.pair.boundary == first_call_of(boundary))
    return Finding(
        boundary,
        variant.cause,
        variant.says,
        module=pair.port,
        reference_path=pair.reference,
        experiments=tuple(
            Experiment(
                f"its twin on the emulator made so, {error.key.phase} {error.key.step}",
                error.rel_l2,
                variant.left_in(error),
            )
            for error in errors
        ),
        fix=variant.fix,
        records=tuple(error.key for error in errors),
    )
