# SPDX-License-Identifier: Apache-2.0
"""Discrete choices that fall the other way: experts of a router, next tokens. A tie within the noise, or a real flip?

T tokens, E choices (experts, or a vocabulary), k of which are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from tttdebug.analysis.ties import TIE, in_noise, noise_of_logits
from tttdebug.errors import LayoutError
from tttdebug.tracking.record import Key

if TYPE_CHECKING:
    from tttdebug.tracking.run import Run

_NAMED = 3


@dataclass(frozen=True)
class Flip:
    """A choice that fell the other way.

    `lost` are choices of the reference that the port does not make, `gained` those it makes instead. `margin` is the
    reference's score of its last choice less that of the first one not taken; `in_noise` the same in standard
    deviations of the noise in a difference of two scores. `kl` is the KL of the logits at that token, nan if unknown.
    """

    token: int
    lost: tuple[int, ...]
    gained: tuple[int, ...]
    margin: float
    in_noise: float
    kl: float = math.nan
    label: str = ""

    @property
    def is_tie(self) -> bool:
        """Whether noise alone explains it."""
        return self.in_noise <= TIE

    @property
    def is_real(self) -> bool:
        """Whether noise does not explain it; neither this nor a tie where no noise is known."""
        return self.in_noise > TIE

    def __str__(self) -> str:
        what = self.label or f"token {self.token} takes {_listed(self.gained)} for {_listed(self.lost)}"
        judged = (
            "beyond the noise"
            if self.is_real
            else "a tie within the noise"
            if self.is_tie
            else "not judged: no noise is known"
        )
        cost = "" if math.isnan(self.kl) else f", KL {self.kl:.3g}"
        return f"{what}: the reference's scores are {self.margin:.3g} apart, {self.in_noise:.2g} σ, {judged}{cost}"


@dataclass(frozen=True)
class Choices:
    """All choices of one place, and those that flipped. `kl_of_flips` is their part of the sum of all KL.

    `key` is the record of a router's scores.
    """

    place: str
    count: int
    flips: tuple[Flip, ...]
    noise: float
    kl_of_flips: float = math.nan
    kl_sum: float = math.nan
    key: Key | None = None

    @property
    def real(self) -> tuple[Flip, ...]:
        """The flips that noise does not explain, the widest margin first."""
        return tuple(sorted((flip for flip in self.flips if flip.is_real), key=lambda flip: -flip.in_noise))

    @property
    def ties(self) -> tuple[Flip, ...]:
        return tuple(flip for flip in self.flips if flip.is_tie)

    def sentences(self) -> tuple[str, ...]:
        """How many flipped and what they cost, then the worst real ones; nothing where none flipped."""
        if not self.flips:
            return ()
        said = f"{self.place}: {len(self.flips)} of {self.count} choices fall the other way"
        if math.isfinite(self.noise):
            said += (
                f", {len(self.ties)} of them between scores as near as the number formats' noise (σ {self.noise:.2g}), "
                f"{len(self.real)} not"
            )
        if self.kl_sum > 0:
            said += f"; {100 * self.kl_of_flips / self.kl_sum:.0f} % of the KL of the logits is at their tokens"
        return (said, *map(str, self.real[:_NAMED]))


def choice_flips(
    reference_TE: Tensor,
    port_TE: Tensor,
    k: int = 1,
    *,
    place: str = "router",
    floor_rel_l2: float = math.nan,
    kl_T: Sequence[float] | None = None,
) -> Choices:
    """Which tokens take other choices of the k highest scores, each judged by the reference's margin.

    The noise of a score is what the floor explains of the scores' spread; without a floor it is the port's own typical
    error, the median over tokens: then scores that are wrong altogether explain their flips themselves, so give a floor
    where there is one. What all scores of a token have in common decides nothing and is left out. `kl_T` is the KL of
    the logits at each token: what the flips cost in the end.

    Raises LayoutError where the shapes differ, k leaves no choice, or a score is not finite.
    """
    if reference_TE.shape != port_TE.shape or reference_TE.ndim != 2 or not 0 < k < reference_TE.shape[1]:
        raise LayoutError(
            f"cannot compare choices of {k} in scores {list(reference_TE.shape)} and {list(port_TE.shape)}; give both "
            "as [tokens, choices], of which k are taken and at least one is not"
        )
    reference_TE, port_TE = reference_TE.double(), port_TE.double()
    if not bool((reference_TE.isfinite() & port_TE.isfinite()).all()):
        raise LayoutError("cannot compare choices of scores that are not finite; look for where they arise first")
    error_TE = port_TE - reference_TE
    error_TE = error_TE - error_TE.mean(-1, keepdim=True)
    spread_TE = reference_TE - reference_TE.mean(-1, keepdim=True)
    typical = float(error_TE.square().mean(-1).sqrt().median())
    noise = typical if math.isnan(floor_rel_l2) else floor_rel_l2 * float(spread_TE.square().mean().sqrt())
    top = reference_TE.topk(k + 1)
    margin_T = top.values[:, k - 1] - top.values[:, k]
    reference_Tk, port_Tk = top.indices[:, :k], port_TE.topk(k).indices
    kl = [math.nan] * len(reference_TE) if kl_T is None else list(kl_T)
    flips = []
    for t in (reference_Tk.sort().values != port_Tk.sort().values).any(-1).nonzero()[:, 0].tolist():
        ours, theirs = port_Tk[t].tolist(), reference_Tk[t].tolist()
        lost = tuple(choice for choice in theirs if choice not in ours)
        gained = tuple(choice for choice in ours if choice not in theirs)
        flips.append(Flip(t, lost, gained, float(margin_T[t]), in_noise(float(margin_T[t]), noise), kl[t]))
    of_flips = sum(flip.kl for flip in flips) if kl_T is not None else math.nan
    return Choices(place, len(reference_TE), tuple(flips), noise, of_flips, sum(kl))


@dataclass(frozen=True)
class Decisions:
    """The choices of a run: next tokens by phase, and experts by layer where their scores were saved."""

    choices: tuple[Choices, ...]

    @property
    def real(self) -> tuple[tuple[str, Flip], ...]:
        """Every flip that noise does not explain, with its place."""
        return tuple((choice.place, flip) for choice in self.choices for flip in choice.real)

    @property
    def tied(self) -> dict[Key, frozenset[int]]:
        """The tokens whose experts differ by ties alone, by the record of the router's scores."""
        return {
            choice.key: frozenset(flip.token for flip in choice.flips)
            for choice in self.choices
            if choice.key is not None and choice.flips and len(choice.ties) == len(choice.flips)
        }

    def sentences(self) -> tuple[str, ...]:
        return tuple(sentence for choice in self.choices for sentence in choice.sentences())


def decisions(run: Run, experts_per_token: int | None = None) -> Decisions:
    """The discrete choices of a run, and which of them fall the other way for a reason.

    Next tokens are judged by the margin of the reference's first two logits against the noise that the logits' floor
    explains (their own error where there is no floor). Routers are judged where their scores are among the run's saved
    tensors (unless it saved none) and `experts_per_token` says how many are taken. Raises RunError for damaged files.
    """
    found = [_next_tokens(run, phase) for phase in ("prefill", "decode")]
    return Decisions((*_routers(run, experts_per_token), *(choices for choices in found if choices.count)))


def _next_tokens(run: Run, phase: str) -> Choices:
    lines = [line for line in run.tokens if line["phase"] == phase]
    noise = {(r.step, r.user): noise_of_logits(r) for r in run.records if (r.boundary, r.phase) == ("logits", phase)}
    flips = []
    for line in lines:
        first, instead = line["reference_top"][0], line["port_top"][0]
        if first[0] != instead[0]:
            sigma = noise.get((line["step"], line["user"]), math.nan)
            label = f"after position {line['position']} of user {line['user']}, {first[1]!r} became {instead[1]!r}"
            sigmas = in_noise(line["margin"], sigma)
            flips.append(Flip(line["position"], (first[0],), (instead[0],), line["margin"], sigmas, line["kl"], label))
    typical = sorted(noise.values())[len(noise) // 2] if noise else math.nan
    kl_of_flips, kl_sum = sum(flip.kl for flip in flips), sum(line["kl"] for line in lines)
    return Choices(f"next token, {phase}", len(lines), tuple(flips), typical, kl_of_flips, kl_sum)


def _routers(run: Run, experts_per_token: int | None) -> list[Choices]:
    if experts_per_token is None:
        return []
    kl = {(line["phase"], line["step"], line["user"], line["position"]): line["kl"] for line in run.tokens}
    found = []
    for record in run.records:
        if not record.boundary.endswith(".router") or (pair := run.tensors(record.key)) is None:
            continue
        reference_TE, port_TE = (side.flatten(0, -2) for side in pair)
        kl_T = _kl_of_call(kl, record.key, len(reference_TE))
        choices = choice_flips(
            reference_TE,
            port_TE,
            experts_per_token,
            place=f"{record.boundary}, {record.phase} {record.step}, user {record.user}",
            floor_rel_l2=record.floor_rel_l2,
            kl_T=kl_T,
        )
        found.append(replace(choices, key=record.key))
    return found


def _kl_of_call(kl: dict[tuple[str, int, int, int], float], key: Key, tokens: int) -> list[float] | None:
    """The KL at each token of a call; None where the logits of some of them were not compared."""
    positions = sorted(position for *call, position in kl if call == [key.phase, key.step, key.user])
    return [kl[key.phase, key.step, key.user, at] for at in positions] if len(positions) == tokens else None


def _listed(choices: Sequence[int]) -> str:
    return " and ".join(map(str, choices))
