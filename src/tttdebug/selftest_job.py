# SPDX-License-Identifier: Apache-2.0
"""The self-test: faults and harmless changes drawn afresh, each explained, and how often the explanation is right."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tttdebug.faults.cases import FaultyCase, HarmlessCase, Setting, faulty_case, harmless_case
from tttdebug.faults.usual_practice import PRACTICES, usual_practice
from tttdebug.tracking.run import Run

Progress = Callable[[str, "float | None"], None]
TARGETS = {"detected": 0.98, "module": 0.95, "cause": 0.85, "cause_in_three": 0.95, "false_alarms": 0.02}
"""What a self-test must reach; `false_alarms` is the most there may be."""


class Explained(Protocol):
    """What is asked of an explanation. `Explanation` is one."""

    @property
    def findings(self) -> Sequence[Any]: ...

    @property
    def detected(self) -> bool: ...


Explain = Callable[[Run], Explained]


@dataclass(frozen=True)
class Outcome:
    """What was said of one case.

    `expected` are the causes that name the fault rightly (of a harmless change those that may be said), `places` the
    boundaries that name its module. `found` is the boundary of the first finding, `causes` what the findings name and
    then the first one's candidates, best first. `usual` is the boundary that each usual practice blames, `error` the
    traceback of an explanation that raised.
    """

    seed: int
    name: str
    level: str
    setting: Setting
    expected: frozenset[str]
    places: tuple[str, ...]
    detected: bool
    found: str | None
    causes: tuple[str, ...]
    usual: dict[str, str | None]
    seconds: float
    effect: float = 0.0
    too_small: int = 0
    error: str = ""

    @property
    def is_fault(self) -> bool:
        return bool(self.places)

    @property
    def module_named(self) -> bool:
        return self.found in self.places

    @property
    def cause_named(self) -> bool:
        return bool(self.causes) and self.causes[0] in self.expected

    @property
    def cause_in_three(self) -> bool:
        return bool(self.expected & set(self.causes[:3]))

    @property
    def false_alarm(self) -> bool:
        """Whether a harmless change is blamed for what it is not."""
        return not self.is_fault and self.detected and not (self.causes and set(self.causes) <= self.expected)

    @property
    def missed(self) -> bool:
        """Whether anything is to be looked at."""
        if not self.is_fault:
            return self.false_alarm or bool(self.error)
        return not (self.detected and self.module_named and self.cause_named)


@dataclass(frozen=True)
class SelftestResult:
    """All outcomes of a self-test and the seed that repeats it."""

    seed: int
    outcomes: tuple[Outcome, ...]

    @cached_property
    def faults(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.is_fault)

    @cached_property
    def harmless(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.is_fault)

    @property
    def too_small(self) -> int:
        """How many faults were drawn whose effect is below what the number formats cause."""
        return sum(outcome.too_small for outcome in self.faults)

    def shares(self, faults: Sequence[Outcome] | None = None) -> dict[str, float]:
        """The shares that `TARGETS` speaks of; nan where there was no such case."""
        chosen = self.faults if faults is None else faults
        return {
            "detected": _share(outcome.detected for outcome in chosen),
            "module": _share(outcome.module_named for outcome in chosen),
            "cause": _share(outcome.cause_named for outcome in chosen),
            "cause_in_three": _share(outcome.cause_in_three for outcome in chosen),
            "false_alarms": _share(outcome.false_alarm for outcome in self.harmless),
        }

    def usual(self, practice: str) -> dict[str, float]:
        """What a usual practice reaches of them on the same runs; it names no causes."""
        return {
            "detected": _share(outcome.usual[practice] is not None for outcome in self.faults),
            "module": _share(outcome.usual[practice] in outcome.places for outcome in self.faults),
            "false_alarms": _share(outcome.usual[practice] is not None for outcome in self.harmless),
        }

    @property
    def practices(self) -> tuple[str, ...]:
        return tuple(PRACTICES)

    @property
    def reached(self) -> bool:
        """Whether every target that was measured is reached and no explanation raised."""
        shares = self.shares()
        missed = [
            name
            for name, target in TARGETS.items()
            if (shares[name] > target if name == "false_alarms" else shares[name] < target)
        ]
        return not missed and not any(outcome.error for outcome in self.outcomes)


def _share(truths: Any) -> float:
    counted = list(truths)
    return sum(counted) / len(counted) if counted else float("nan")


def selftest(
    faults: int,
    harmless: int,
    seed: int | None = None,
    *,
    explain: Explain | None = None,
    names: tuple[str, ...] = (),
    families: tuple[str, ...] = (),
    progress: Progress = lambda message, fraction: None,
) -> SelftestResult:
    """Draw so many faults and harmless changes, and let each be explained.

    `seed` repeats a self-test, None draws one. `names` and `families` narrow down what is drawn.
    """
    explain = explain or _explain
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    draw = random.Random(seed)
    outcomes = []
    for number in range(faults + harmless):
        own = draw.getrandbits(31)
        kind = "fault" if number < faults else "harmless"
        progress(f"{kind} case {own}", number / (faults + harmless))
        outcomes.append(run_case(kind, own, explain, names=names, families=families))
    return SelftestResult(seed, tuple(outcomes))


def run_case(
    kind: str, seed: int, explain: Explain, *, names: tuple[str, ...] = (), families: tuple[str, ...] = ()
) -> Outcome:
    """One case by its own seed, `kind` being `fault` or `harmless`."""
    case = faulty_case(seed, names, families) if kind == "fault" else harmless_case(seed, names, families)
    started = time.perf_counter()
    error, detected = "", False
    findings: tuple[Any, ...] = ()
    with TemporaryDirectory() as folder:
        run = _tracked(case, f"{folder}/run")
        usual = usual_practice(run)
        try:
            explanation = explain(run)
            findings, detected = tuple(explanation.findings), explanation.detected
        except Exception:  # noqa: BLE001 (that an explanation raises is a result: it is shown, and the test fails)
            error = traceback.format_exc()
    about: dict[str, Any] = {
        "detected": detected,
        "found": findings[0].boundary if findings else None,
        "causes": _causes(findings),
        "usual": usual,
        "seconds": time.perf_counter() - started,
        "error": error,
    }
    if isinstance(case, HarmlessCase):
        return Outcome(seed, case.change.name, "harmless", case.setting, case.change.may_say, (), **about)
    return Outcome(
        seed,
        case.fault.name,
        case.fault.level,
        case.setting,
        case.fault.causes,
        (case.site.boundary, *case.site.caches),
        effect=case.effect.ratio,
        too_small=case.too_small,
        **about,
    )


def _explain(run: Run) -> Explained:
    from tttdebug.analysis.explain import explain

    return explain(run)


def _tracked(case: FaultyCase | HarmlessCase, folder: str) -> Run:
    from tttdebug.tracking import track

    setting = case.setting
    return track(
        case.port,
        setting.reference,
        setting.prompts,
        setting.decode_steps,
        out=folder,
        save_tensors="all",
    )


def _causes(findings: Sequence[Any]) -> tuple[str, ...]:
    """What is named, best first: the findings' causes, then the first one's candidates."""
    named = [finding.cause for finding in findings]
    named += [candidate.cause for finding in findings[:1] for candidate in finding.candidates]
    return tuple(cause for cause in dict.fromkeys(named) if cause != "unknown")
