# SPDX-License-Identifier: Apache-2.0
"""A self-test can be repeated from its seed, and counts what an explanation names rightly and what it misses."""

from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from tttdebug.analysis.finding import Candidate, Finding
from tttdebug.faults.cases import Setting, faulty_case
from tttdebug.faults.usual_practice import PRACTICES
from tttdebug.reporting.selftest_report import selftest_report
from tttdebug.selftest_job import Outcome, SelftestResult, run_case, selftest

SETTING = Setting("qwen3", 1, 2, "accuracy", ((5, 6, 7),), 2)
RIGHT = Outcome(
    *(1, "rope_theta", "code", SETTING, frozenset({"rope_theta"}), ("L00.self_attn", "L00.k_cache")),
    detected=True,
    found="L00.self_attn",
    causes=("rope_theta", "position_offset"),
    usual=dict.fromkeys(PRACTICES),
    seconds=1.0,
    effect=20.0,
)
SOUND = replace(
    RIGHT, name="plain", level="harmless", expected=frozenset(), places=(), detected=False, found=None, causes=()
)


@dataclass(frozen=True)
class Says:
    """An explanation that says what it was told to."""

    findings: tuple[Finding, ...]
    detected: bool = field(default=True)


def first_divergence(cause, run):
    first = run.first_divergence()
    if first is None:
        return Says((), detected=False)
    return Says((Finding(first.boundary, cause, "said so", candidates=(Candidate("activation", "maybe", 0.1),)),))


def test_a_seed_repeats_a_case():
    first, second = (faulty_case(11, families=("qwen3", "gpt2")) for _ in range(2))
    assert (first.fault.name, first.site.boundary, first.setting) == (
        second.fault.name,
        second.site.boundary,
        second.setting,
    )
    assert first.effect == second.effect
    assert first.effect.ratio >= 1.0


def test_a_self_test_counts_what_is_named():
    explain = partial(first_divergence, "activation")
    result = selftest(2, 1, 3, explain=explain, names=("gate_function_missing", "plain"), families=("llama",))
    assert [outcome.name for outcome in result.outcomes] == ["gate_function_missing", "gate_function_missing", "plain"]
    assert result.shares() == {
        "detected": 1.0,
        "module": 1.0,
        "cause": 1.0,
        "cause_in_three": 1.0,
        "false_alarms": 0.0,
    }
    assert result.reached
    again = run_case("fault", result.outcomes[0].seed, explain, names=("gate_function_missing",), families=("llama",))
    assert replace(again, seconds=0.0) == replace(result.outcomes[0], seconds=0.0)


def test_an_explanation_that_raises_is_shown_and_fails_the_test():
    def raises(run):
        raise ZeroDivisionError("no tokens")

    outcome = run_case("harmless", 5, raises, names=("plain",), families=("llama",))
    assert "ZeroDivisionError: no tokens" in outcome.error
    assert not SelftestResult(1, (RIGHT, outcome)).reached


@pytest.mark.parametrize(
    ("said", "missed"),
    [
        ({"detected": False, "found": None, "causes": ()}, {"detected", "module", "cause", "cause_in_three"}),
        ({"found": "L01.mlp"}, {"module"}),
        ({"causes": ("scaled", "offset", "rope_theta")}, {"cause"}),
        ({"causes": ("scaled", "offset", "window", "rope_theta")}, {"cause", "cause_in_three"}),
        ({"found": "L00.k_cache"}, set()),
    ],
)
def test_each_share_counts_one_thing(said, missed):
    shares = SelftestResult(1, (replace(RIGHT, **said), SOUND)).shares()
    assert {name for name, share in shares.items() if share == 0.0} - {"false_alarms"} == missed
    assert SelftestResult(1, (replace(RIGHT, **said), SOUND)).reached == (not missed)


def test_a_sound_port_may_be_said_to_hold_what_it_holds():
    blamed = replace(SOUND, detected=True, causes=("heads_permuted",), found="L00.k_cache")
    assert blamed.false_alarm
    assert not replace(blamed, expected=frozenset({"heads_permuted"})).false_alarm


def test_the_report_lists_what_was_missed(capsys):
    from rich.console import Console

    wrong = replace(RIGHT, seed=4711, causes=("scaled",))
    console = Console(width=200, record=True)
    console.print(selftest_report(SelftestResult(99, (RIGHT, wrong, SOUND))))
    text = console.export_text()
    assert "seed 99: 2 faults, 1 harmless changes" in text
    assert "4711" in text
    assert "scaled 1" in text
    assert "50.0%" in text
