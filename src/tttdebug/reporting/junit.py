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
    write_suite(_suite(result), path)


def write_suite(suite: ElementTree.Element, path: Path) -> None:
    """Write one suite, with its counts. Raises RunError when that cannot be done."""
    try:
        path.write_bytes(ElementTree.tostring(_counted(suite), encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise RunError(
            f"cannot write the JUnit report to {path}: {error.strerror}; choose another file with --junit"
        ) from None


def _suite(result: GateResult) -> ElementTree.Element:
    cases: dict[tuple[str, str], ElementTree.Element] = {}
    suite = ElementTree.Element("testsuite", name="tttdebug gate")
    classname = f"tttdebug.gate.{result.model}"
    ledger = add_case(suite, classname, LEDGER)
    properties = ElementTree.SubElement(ledger, "properties")
    add_property(properties, "ledger", ledger_line(result.ledger))
    add_property(properties, "thresholds_sha256", result.thresholds_digest)
    add_property(properties, "reference_sha256", result.reference_digest)
    if result.objections:
        add_failure(ledger, "; ".join(result.objections), gate_text(result))
    for worst in result.worst:
        key = worst.boundary, worst.phase
        if key not in cases:
            cases[key] = add_case(suite, classname, " ".join(key))
            ElementTree.SubElement(cases[key], "properties")
        held = cases[key][0]
        add_property(held, worst.metric, f"{worst.value:.9g}")
        add_property(held, f"{worst.metric}.limit", f"{worst.limit:g}")
    for key, misses in _by_case(result.misses).items():
        case = cases.get(key)
        if case is None:
            case = cases[key] = add_case(suite, classname, " ".join(key))
        add_failure(
            case, misses[0].says, "\n".join((*map(record_text, by_record(misses)), f"reproduce: {result.command}"))
        )
    return suite


def _counted(suite: ElementTree.Element) -> ElementTree.Element:
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


def add_case(suite: ElementTree.Element, classname: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_text(classname), name=_text(name))


def add_property(properties: ElementTree.Element, name: str, value: str) -> None:
    ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))


def add_failure(case: ElementTree.Element, message: str, story: str) -> None:
    ElementTree.SubElement(case, "failure", message=_text(message)).text = _text(story)


def _text(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_IN_XML.sub("?", text)
