# SPDX-License-Identifier: Apache-2.0
"""A gate's result as a JUnit report: a test case a boundary and phase, with its figures as properties."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tttdebug.errors import RunError
from tttdebug.reporting.gate_report import by_record, gate_text, ledger_line, record_text

if TYPE_CHECKING:
    from tttdebug.testing.gate_result import GateResult, Miss

LEDGER = "ledger"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(result: GateResult, path: Path) -> None:
    """Write the report. Raises RunError when that cannot be done."""
    try:
        path.write_bytes(ElementTree.tostring(junit_tree(result), encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise RunError(
            f"cannot write the JUnit report to {path}: {error.strerror}; choose another file with --junit"
        ) from None


def junit_tree(result: GateResult) -> ElementTree.Element:
    """Of every metric that is limited the worst value and its limit; the case `ledger` holds what else may fail."""
    cases: dict[tuple[str, str], ElementTree.Element] = {}
    suite = ElementTree.Element("testsuite", name="tttdebug gate")
    ledger = _case(suite, result, LEDGER)
    properties = ElementTree.SubElement(ledger, "properties")
    _property(properties, "ledger", ledger_line(result.ledger))
    _property(properties, "thresholds_sha256", result.thresholds_digest)
    _property(properties, "reference_sha256", result.reference_digest)
    if result.objections:
        _fail(ledger, "; ".join(result.objections), gate_text(result))
    for worst in result.worst:
        key = worst.boundary, worst.phase
        if key not in cases:
            cases[key] = _case(suite, result, " ".join(key))
            ElementTree.SubElement(cases[key], "properties")
        held = cases[key][0]
        _property(held, worst.metric, f"{worst.value:.9g}")
        _property(held, f"{worst.metric}.limit", f"{worst.limit:g}")
    for key, misses in _by_case(result.misses).items():
        case = cases.get(key)
        if case is None:
            case = cases[key] = _case(suite, result, " ".join(key))
        _fail(case, misses[0].says, "\n".join((*map(record_text, by_record(misses)), f"reproduce: {result.command}")))
    failures = sum(case.find("failure") is not None for case in suite)
    suite.attrib |= {"tests": str(len(suite)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    return suites


def _by_case(misses: Iterable[Miss]) -> dict[tuple[str, str], list[Miss]]:
    found: dict[tuple[str, str], list[Miss]] = {}
    for miss in misses:
        found.setdefault((miss.key.boundary, miss.key.phase), []).append(miss)
    return found


def _case(suite: ElementTree.Element, result: GateResult, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"tttdebug.gate.{result.model}", name=_text(name))


def _property(properties: ElementTree.Element, name: str, value: str) -> None:
    ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))


def _fail(case: ElementTree.Element, message: str, story: str) -> None:
    ElementTree.SubElement(case, "failure", message=_text(message)).text = _text(story)


def _text(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_IN_XML.sub("?", text)
