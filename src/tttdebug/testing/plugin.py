# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: the fixtures of accuracy tests, and the rule that a gate which compared nothing is no pass.

Installed with the package, so it loads in every project's pytest: it imports no torch by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tttdebug.references import Reference
    from tttdebug.testing.gate import AccuracyGate
    from tttdebug.testing.tracked_models import AccuracyRequest, TrackedModels
    from tttdebug.tracking.run import Run

_GATE = pytest.StashKey["AccuracyGate"]()
_MODELS = pytest.StashKey["TrackedModels"]()
_UPDATED = pytest.StashKey[list[str]]()
_ACCURACY = "accuracy"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `pytest --help`, group tttdebug."""
    group = parser.getgroup("tttdebug")
    group.addoption(
        "--tttdebug-device", default="emulated", help="What `tracked_run` runs ports on: emulated, ttnn, ttnn:mesh …"
    )
    group.addoption("--tttdebug-report", metavar="DIR", help="Keep the runs of `tracked_run` in this folder.")
    group.addoption(
        "--tttdebug-update-baseline",
        action="store_true",
        help="Tighten the baselines that accuracy markers name, or write them; what is worse still fails.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, which --strict-markers asks for."""
    if config.option.tttdebug_update_baseline and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--tttdebug-update-baseline: workers would write into the same file; leave out -n")
    config.stash[_UPDATED] = []
    config.addinivalue_line(
        "markers",
        f"{_ACCURACY}(model, precision, boundaries, prompts, decode_steps, layers, thresholds, baseline): the model "
        "that reference_model and tracked_run give, and what accuracy_gate.run holds it to (tttdebug)",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give back the device, if one was opened."""
    if (models := config.stash.get(_MODELS, None)) is not None:
        models.close()


@pytest.fixture
def accuracy_gate(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> AccuracyGate:
    """Call it as `accuracy_gate(actual, reference, pcc=0.99, slope=0.02, name="L07.mlp")`, or `accuracy_gate.run(run)`.

    Limits: pcc, rel_l2, slope, max_abs_diff, worst_token_pcc, last_token_pcc, ulp_p99. The figures of every comparison
    become properties of the test in a JUnit report. A test that asks for the gate and compares nothing fails.
    """
    from tttdebug.testing.gate import AccuracyGate

    asked = _asked(request) if request.node.get_closest_marker(_ACCURACY) else None
    gate = (
        AccuracyGate(record_property, command=_command(request))
        if asked is None
        else _gate_of(asked, request, record_property)
    )
    request.node.stash[_GATE] = gate
    return gate


@pytest.fixture
def reference_model(request: pytest.FixtureRequest) -> Reference:
    """The reference of the model that the test's `accuracy` marker names; loaded once a session."""
    return _models(request).reference(_asked(request))


@pytest.fixture
def tracked_run(request: pytest.FixtureRequest) -> Run:
    """That model's port tracked beside it at the marker's precision; made once a session for all tests that agree."""
    return _models(request).run(_asked(request), _command(request))


@pytest.hookimpl(trylast=True)  # after the test itself, and only if it raised nothing
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a test that meant to gate and did not."""
    gate = item.stash.get(_GATE, None)
    if gate is not None and gate.compared == 0:
        pytest.fail(
            "accuracy_gate compared nothing; call it with two tensors, or take it out of the test", pytrace=False
        )
    if gate is None and item.get_closest_marker(_ACCURACY):
        pytest.fail(
            "the test is marked accuracy but holds nothing to it; take the fixture accuracy_gate and call "
            "accuracy_gate.run(tracked_run), or remove the marker",
            pytrace=False,
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which baselines were written."""
    if config.option.tttdebug_update_baseline:
        terminalreporter.section("baselines")
        for said in config.stash[_UPDATED] or ["no test that passed its gate names a baseline"]:
            terminalreporter.line(said)


def _gate_of(
    asked: AccuracyRequest, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> AccuracyGate:
    """A gate with what the marker says of it."""
    from tttdebug.testing.gate import AccuracyGate

    config = request.config
    thresholds, baseline = (
        None if name is None else config.rootpath / name for name in (asked.thresholds, asked.baseline)
    )

    def update(run: Path, file: Path) -> None:
        from tttdebug.baseline_job import tightened, written

        why = f"pytest --tttdebug-update-baseline {request.node.nodeid}"
        said = tightened(run, file, why, loosen=False) if file.exists() else written(run, file, why, patterns=False)
        config.stash[_UPDATED].append(said)

    return AccuracyGate(
        record_property,
        thresholds=thresholds,
        boundaries=asked.boundaries,
        baseline=baseline,
        update_baseline=update if config.option.tttdebug_update_baseline else None,
        command=_command(request),
    )


def _command(request: pytest.FixtureRequest) -> str:
    """What runs this one test again."""
    return f"pytest '{request.node.nodeid}'"


def _models(request: pytest.FixtureRequest) -> TrackedModels:
    from tttdebug.testing.tracked_models import TrackedModels

    stash, options = request.config.stash, request.config.option
    if _MODELS not in stash:
        report = options.tttdebug_report
        stash[_MODELS] = TrackedModels(options.tttdebug_device, None if report is None else Path(report))
    return stash[_MODELS]


def _asked(request: pytest.FixtureRequest) -> AccuracyRequest:
    from tttdebug.errors import ThresholdError
    from tttdebug.testing.tracked_models import AccuracyRequest

    marker = request.node.get_closest_marker(_ACCURACY)
    if marker is None:
        raise ThresholdError(
            f"{request.fixturename} needs to know the model; mark the test with "
            '@pytest.mark.accuracy(model="llama", precision="accuracy")'
        )
    return AccuracyRequest.of_marker(marker.args, marker.kwargs)
