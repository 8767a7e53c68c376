# SPDX-License-Identifier: Apache-2.0
"""The findings of an explained run, ranked: the sentence, the evidence as numbers, and the change that mends it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.reporting.findings import records_text
from tttdebug.reporting.html.markup import Child, Markup, element, joined, section, table
from tttdebug.reporting.wording import size


def findings_section(explanation: Explanation | None, command: str) -> Markup:
    """Nothing found is said too, and where nobody has looked, how to look."""
    if explanation is None:
        hint = ("This run was not explained: ", element("code", command), " says which module is at fault, and why.")
        return section("Findings", element("p", *hint), id_="findings")
    count = len(explanation)
    cards = [_card(finding, place, count) for place, finding in enumerate(explanation, start=1)]
    notes = [element("li", note) for note in explanation.notes]
    return section(
        "Findings",
        cards or element("p", "Nothing was found."),
        element("ul", notes, class_="quiet") if notes else None,
        id_="findings",
    )


def _card(finding: Finding, place: int, count: int) -> Markup:
    cause = finding.cause if finding.confirmed else "cause not known"
    facts = [(element("dt", name), element("dd", value)) for name, value in _facts(finding)]
    return element(
        "article",
        element("p", f"{place} of {count}", element("span", cause, class_="cause"), class_="eyebrow"),
        element("h3", f"{finding.boundary}: {finding.says}"),
        element("dl", facts),
        class_="finding",
    )


def _facts(finding: Finding) -> Iterator[tuple[str, Child]]:
    if finding.fix is not None:
        yield "change", _change(finding.fix)
    if finding.experiments:
        yield "evidence", _evidence(finding.experiments)
    if finding.where:
        yield "where", _lines(finding.where)
    if not math.isnan(finding.share):
        yield "share", f"{finding.share:.0%} of the final error is gone with the reference's module in its place"
    if finding.candidates:
        nearest = [f"{tried.cause}: {tried.says} (rel_l2 {size(tried.rel_l2)} left)" for tried in finding.candidates]
        yield "also tried" if finding.confirmed else "nearest", _lines(nearest)
    if finding.module:
        beside = (", beside ", element("code", finding.reference_path)) if finding.reference_path else ""
        yield "module", (element("code", finding.module), *beside)
    if finding.records:
        yield "shown by", records_text(finding.records)


def _change(fix: Fix) -> Markup:
    settings = json.dumps(dict(fix.settings), indent=1) if fix.settings else ""
    return joined(
        element("strong", fix.says),
        element("pre", fix.code) if fix.code else None,
        element("pre", f"decoder_config.json: {settings}") if settings else None,
    )


def _evidence(experiments: tuple[Experiment, ...]) -> Markup:
    rows = [
        (one.what, one.metric, size(one.before), size(one.after), "–" if math.isnan(one.floor) else size(one.floor))
        for one in experiments
    ]
    return table(("what was changed", "metric", "before", "after", "floor"), rows, numbers=3)


def _lines(texts: Iterable[str]) -> Child:
    return [element("div", text) for text in texts]
