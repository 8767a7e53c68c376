# SPDX-License-Identifier: Apache-2.0
"""A run as JUnit XML, which CI services read: a test case a boundary and call, a suite for each mode of comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tttdebug.reporting.summary import missed_limits, run_id, summary_of
from tttdebug.reporting.wording import call_of, printable
from tttdebug.tracking.run import ACCUMULATED

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.tracking.manifest import Skipped
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

_PROPERTIES = ("pcc", "rel_l2", "floor_rel_l2", "slope", "max_abs_diff", "verdict")


def junit_report(run: Run, explanation: Explanation | None) -> str:
    """The suites `accumulated`, `isolated`, `inherited`, each where there are such records, and `ledger`.

    A comparison that was expected and not made is a skipped case, and the ledger's own case fails for it, so that no
    run is green that did not compare everything. Another fails where the audit found weights that are wrong.
    """
    root = Element("testsuites", name="tttdebug")
    by_mode: dict[str, list[Record]] = {ACCUMULATED: []}
    for record in (*run.records, *run.experiments):
        by_mode.setdefault(record.mode, []).append(record)
    for mode, records in by_mode.items():
        suite = _suite(root, mode, run)
        if mode == ACCUMULATED:
            _add_properties(suite, _about(run, explanation))
        for record in records:
            _add_record(suite, record)
        if mode == ACCUMULATED:
            for entry in run.manifest.skipped:
                _add_skipped(suite, entry)
        _count(suite)
    ledger = _suite(root, "ledger", run)
    _add_completeness(ledger, run)
    _add_weights(ledger, run)
    _count(ledger)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, name: str, run: Run) -> Element:
    return SubElement(root, "testsuite", name=name, timestamp=printable(run.manifest.created))


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.6f}")


def _about(run: Run, explanation: Explanation | None) -> Mapping[str, object]:
    manifest, summary = run.manifest, summary_of(run, explanation)
    return {
        "run": run_id(run),
        "outcome": f"{summary.outcome}: {summary.headline}",
        "model": manifest.model.get("name", ""),
        "weights_digest": manifest.model.get("weights_digest", ""),
        "precision": manifest.precision,
        **{f"device.{name}": value for name, value in manifest.device.items()},
        **{f"version.{name}": value for name, value in manifest.versions.items()},
        "command": manifest.command,
        **{f"finding.{place}": f"{one.boundary}: {one.says}" for place, one in enumerate(explanation or (), start=1)},
    }


def _add_properties(parent: Element, properties: Mapping[str, object]) -> None:
    holder = SubElement(parent, "properties")
    for name, value in properties.items():
        SubElement(holder, "property", name=printable(name), value=printable(str(value)))


def _add_record(suite: Element, record: Record) -> None:
    case = _case(suite, record.boundary, call_of(record), record.seconds)
    _add_properties(case, {name: getattr(record, name) for name in _PROPERTIES})
    if record.failed:
        message = printable(missed_limits(record))
        failure = SubElement(case, "failure", type=printable(record.verdict), message=message)
        failure.text = printable("\n".join(_failure_lines(record)))
    elif record.verdict.startswith("skipped"):
        SubElement(case, "skipped", message=printable(record.verdict.partition(":")[2] or record.note))


def _failure_lines(record: Record) -> Iterable[str]:
    yield f"{record.boundary} differs from {record.reference_path} in {call_of(record)}"
    yield missed_limits(record)
    if record.worst_token >= 0:
        yield f"worst token {record.worst_token} (pcc {record.worst_token_pcc:.6f})"
    yield f"port module {record.module}, output {record.dtype} {list(record.shape)}"


def _add_skipped(suite: Element, entry: Skipped) -> None:
    call = entry.phase if entry.phase == "prefill" else f"{entry.phase} {entry.step}"
    case = _case(suite, entry.boundary, f"{call}, user {entry.user}" if entry.user else call)
    SubElement(case, "skipped", message=printable(entry.reason))


def _add_completeness(suite: Element, run: Run) -> None:
    manifest, compared = run.manifest, len(run.records)
    case = _case(suite, "ledger", "everything expected was compared")
    said = f"{compared} of {manifest.expected} expected comparisons were made; the run is {manifest.status}"
    if not manifest.finished:
        SubElement(case, "error", type="unfinished", message=printable(said))
    elif not 0 < compared == manifest.expected:
        SubElement(case, "failure", type="incomplete", message=printable(said))


def _add_weights(suite: Element, run: Run) -> None:
    """A case where the port's weights were audited."""
    if run.manifest.weights:
        case = _case(suite, "weights", "are the checkpoint's")
        if wrong := run.manifest.wrong_weights:
            SubElement(case, "failure", type="weights", message=printable(wrong))


def _case(suite: Element, boundary: str, call: str, seconds: float = math.nan) -> Element:
    """A case of class `boundary`, named by both, since some services show the name alone."""
    name = printable(f"{boundary} {call}")
    time = "0" if math.isnan(seconds) else f"{seconds:.6f}"
    return SubElement(suite, "testcase", classname=printable(boundary), name=name, time=time)
