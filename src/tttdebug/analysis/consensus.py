# SPDX-License-Identifier: Apache-2.0
"""One cause for several calls: what explains a prefill must explain the decode steps, and one step the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tttdebug.analysis.finding import Experiment
from tttdebug.analysis.hypotheses import NOTHING, Diagnosis, Trial, rel_l2, search
from tttdebug.analysis.hypotheses.narrowing import narrowed_alike
from tttdebug.analysis.module_call import ModuleCall

SECONDS_OF_A_SEARCH = 20.0
HALF, MARGIN = 0.5, 1.5
"""A cause explains a call when it takes half of its error away, and leaves no more than one and a half floors."""

NEARLY_ALL, FEW_FLOORS = 0.03, 4.0
"""Or, with no number fitted, when it leaves three hundredths of the error and a few floors."""

OF_STATE = frozenset(
    {"kv_block_swapped", "kv_position", "kv_stale", "position_offset", "mask_wrong", "mask_missing", "window"}
)
"""Causes that a module may have in decode alone: its prefill writes what decode reads, and weights serve both."""


@dataclass(frozen=True)
class Agreed:
    """A cause, the trial that speaks for it, and an experiment for each call that it explains, of so many calls.

    `steady` says that the very same change explains all of them, with no number fitted anew.
    """

    trial: Trial
    experiments: tuple[Experiment, ...]
    calls: int
    steady: bool

    @property
    def share(self) -> float:
        """Of the calls that it could explain those that it does; what says where only needs some tokens."""
        return min(1.0, len(self.experiments) / max(1, self.calls))

    @property
    def explains_most(self) -> bool:
        return self.share > 0.5


@dataclass(frozen=True)
class Consensus:
    """The causes that explain most of the calls, the best first, and the trials that came nearest on the first one."""

    agreed: tuple[Agreed, ...]
    nearest: tuple[Trial, ...]


def consensus(calls: Sequence[ModuleCall], *, decode_alone: bool) -> Consensus:
    """What explains the calls of one module, each at fault. `decode_alone` says that its prefill is as it should be.

    Raises WeightsError for a call without a weight that its spec needs.
    """
    calls = narrowed_alike(calls)
    diagnoses = [search(call, budget_seconds=SECONDS_OF_A_SEARCH, at_fault=True) for call in calls]
    told = [_explanations(diagnosis) for diagnosis in diagnoses]
    causes = dict.fromkeys(trial.cause for trials in told for trial in trials)
    found = [_agreed(cause, calls, told) for cause in causes]
    places = {cause: _place(cause, told) for cause in causes}

    def rank(agreed: Agreed) -> tuple[float, bool, bool, int]:
        misplaced = decode_alone and agreed.trial.cause not in OF_STATE
        return -agreed.share, misplaced, not agreed.steady, places[agreed.trial.cause]

    ranked = sorted(found, key=rank)
    of_some = (agreed.trial for agreed in ranked if not agreed.explains_most)
    return Consensus(tuple(each for each in ranked if each.explains_most), (*of_some, *diagnoses[0].nearest))


def _explanations(diagnosis: Diagnosis) -> tuple[Trial, ...]:
    """The trials that explain a call, best first."""
    nearly = (trial for trial in diagnosis.nearest if not trial.hypothesis.fitted and _leaves_little(trial.experiment))
    return (*diagnosis.confirmed, *nearly)


def _leaves_little(experiment: Experiment) -> bool:
    return experiment.after <= min(NEARLY_ALL * experiment.before, FEW_FLOORS * experiment.floor)


def _agreed(cause: str, calls: Sequence[ModuleCall], told: Sequence[Sequence[Trial]]) -> Agreed:
    """How far one cause explains the calls: by one and the same change, or by one fitted to each call."""
    own = [next((trial for trial in trials if trial.cause == cause), None) for trials in told]
    best: tuple[Trial, list[Experiment]] | None = None
    for trial in filter(None, own):
        explained = [trial.experiment if own[i] is trial else _repeated(trial, call) for i, call in enumerate(calls)]
        experiments = [experiment for experiment in explained if experiment is not None]
        if best is None or len(experiments) > len(best[1]):
            best = trial, experiments
    assert best is not None  # the cause is some trial's
    steady = len(best[1]) == len(calls)
    if not steady and sum(trial is not None for trial in own) > len(best[1]):
        best = best[0], [trial.experiment for trial in own if trial is not None]
    told_by = [call for call in calls if not best[0].hypothesis.localises or call.port_TC.shape[0] > 1]
    return Agreed(best[0], tuple(best[1]), len(told_by), steady)  # where in a tensor is no question of one token


def _repeated(trial: Trial, call: ModuleCall) -> Experiment | None:
    """The same change on another call; None where it does not explain it, or takes its values from the first."""
    if trial.hypothesis.localises:
        return None
    port_TC = call.port_TC.float()
    before, after = rel_l2(port_TC, NOTHING.predict(call)), rel_l2(port_TC, trial.hypothesis.predict(call))
    step = f"decode {call.key.step}" if call.key.phase == "decode" else "prefill"
    repeated = Experiment(f"the same in {step} of user {call.key.user}", before, after, call.floor_rel_l2)
    at_floor = after <= min(HALF * before, MARGIN * max(call.floor_rel_l2, trial.experiment.floor))
    return repeated if at_floor or (not trial.hypothesis.fitted and _leaves_little(repeated)) else None


def _place(cause: str, told: Sequence[Sequence[Trial]]) -> int:
    """The best place of a cause among the explanations of any call."""
    return min(place for trials in told for place, trial in enumerate(trials) if trial.cause == cause)
