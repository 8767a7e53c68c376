# SPDX-License-Identifier: Apache-2.0
"""The HTML report says what a run says, needs nothing else, and reads nothing in a run's texts as markup."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.analysis.explanation import Explanation
from tttdebug.reporting.html.heat_map import depth_of
from tttdebug.reporting.html.layers import layers_of
from tttdebug.reporting.html.markup import Markup, element, table
from tttdebug.reporting.html.page import html_report
from tttdebug.reporting.html.scale import LogScale
from tttdebug.reporting.markdown_report import markdown_report
from tttdebug.reporting.wording import printable

TAGS_OF_REPORTS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "article",
        "figure",
        "figcaption",
        "details",
        "summary",
        "div",
        "span",
        "p",
        "h1",
        "h2",
        "h3",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "b",
        "i",
        "strong",
        "code",
        "pre",
        "svg",
        "defs",
        "g",
        "path",
        "polygon",
        "polyline",
        "line",
        "rect",
        "circle",
        "text",
        "use",
    ]
)
VOID = {"meta"}


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements, its texts, and whether every element is closed."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str, class_: str) -> int:
        return sum(one == tag and class_ in attributes.get("class", "").split() for one, attributes in self.elements)


def page_of(run) -> Page:
    return Page(html_report(run, Explanation.load(run)))


@pytest.mark.parametrize("name", ["broken", "sound", "unfinished", "incomparable", "hostile"])
def test_the_page_loads_and_runs_nothing(name, request):
    page = page_of(request.getfixturevalue(name))
    assert {tag for tag, _ in page.elements} <= TAGS_OF_REPORTS
    for tag, attributes in page.elements:
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        assert not {"src", "srcset", "action"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#"), tag
    assert "@import" not in page.source
    assert "url(" not in page.source
    policy = [attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_runs_texts_are_shown_as_they_are(hostile):
    page = page_of(hostile)
    manifest = hostile.manifest
    texts = [record.boundary for record in hostile.records]
    texts += [entry.reason for entry in manifest.skipped] + [*manifest.notes, manifest.command, manifest.precision]
    texts += [text for continued in manifest.continuations for text in continued.values()]
    explanation = Explanation.load(hostile)
    texts += [*explanation.notes, explanation[0].says, explanation[0].fix.says, *explanation[0].where]
    for text in texts:
        assert " ".join(text.split()) in page.text


def test_a_broken_run_says_what_is_wrong_and_what_mends_it(broken):
    page = page_of(broken)
    finding = Explanation.load(broken)[0]
    assert "FAIL L03.mlp is at fault: the output's channels are rolled by 3" in page.text
    for experiment in finding.experiments:
        assert experiment.what in page.text
    assert "97% of the final error is gone" in page.text
    assert finding.fix.code in page.text
    assert broken.manifest.command in page.text
    assert broken.manifest.model["weights_digest"] in page.text
    assert "and names the the the" in page.text


def test_each_module_stands_in_charts_and_maps(broken):
    page = page_of(broken)
    layers, kinds = 6, 5
    assert page.count("rect", "cell") == 2 * layers * kinds  # as the port ran, and alone
    assert page.count("circle", "ring") == 2 * layers * kinds  # prefill, and the worst of decode
    assert page.count("polygon", "band") == 2 * kinds


def test_a_sound_run_passes_and_says_how_to_look_deeper(sound):
    page = page_of(sound)
    assert "PASS The port follows its reference: every gate holds" in page.text
    assert "Boundaries that fail" not in page.text
    assert f"tttdebug explain {sound.path}" in page.text


def test_what_is_missing_is_never_a_pass(unfinished, incomparable):
    page = page_of(unfinished)
    assert "INCOMPLETE" in page.text
    assert f"{unfinished.manifest.expected - 14} of {unfinished.manifest.expected} expected comparisons" in page.text
    page = page_of(incomparable)
    assert "FAIL" in page.text
    assert "non-finite of 6,144 values: 1 in the port, 0 in the reference" in page.text
    assert "the port gives 128 channels where the reference gives 96" in page.text


def test_modules_that_stand_in_no_layers_are_drawn_in_their_order(broken):
    records = [replace(record, boundary=record.boundary.replace(".", "_")) for record in broken.records]
    page = page_of(replace(broken, records=records, experiments=[]))
    assert "in the order of execution" in page.text
    assert page.count("polygon", "band") == 2
    assert page.count("rect", "cell") == 0
    assert page.count("use", "mark") == 2 * 33  # prefill, and the worst of decode


def test_a_run_that_compared_nothing_is_a_page_that_says_so(broken):
    nothing = replace(broken.manifest, compared=0)
    page = Page(html_report(replace(broken, records=[], experiments=[], manifest=nothing), None))
    assert "INCOMPLETE" in page.text
    assert "Nothing was compared." in page.text


def test_weights_that_are_not_the_checkpoints_are_said_first(sound):
    fault = {"source": "a.weight", "path": "a.w1", "status": "permuted", "detail": "exchanged: holds <b.weight>"}
    weights = {"summary": "30 weights: 29 equal, 1 permuted", "faults": [fault]}
    run = replace(sound, manifest=replace(sound.manifest, weights=weights))
    page = page_of(run)
    assert "1 weight of the port is not the checkpoint's, the first a.weight, permuted: exchanged: holds" in page.text
    assert "30 weights: 29 equal, 1 permuted" in page.text
    assert "FAIL" in page.text
    assert "Nothing that was compared fails, but the port's weights are not the checkpoint's" in page.text
    assert "| `a.weight` | `a.w1` | permuted | exchanged: holds &lt;b.weight&gt; |" in markdown_report(run, None)


@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(text, attribute):
    page = Page(element("p", text, title=attribute))
    shown = "".join(page.texts).replace("\r\n", "\n")
    assert shown == printable(text).replace("\r\n", "\n")
    assert page.elements == [("p", {"title": printable(attribute)})]


def test_what_is_built_here_is_not_escaped_again():
    assert element("p", element("b", "<"), None, [1, Markup("&amp;")]) == "<p><b>&lt;</b>1&amp;</p>"
    assert "number" not in table(["name"], [["x"]], numbers=0)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.floats(), st.floats())
def test_a_scale_holds_any_value_and_keeps_their_order(values, one, other):
    scale = LogScale.over(values)
    assert scale.low < scale.high
    assert 0 <= scale.share(one) <= 1
    if one <= other:
        assert scale.share(one) <= scale.share(other)
    if math.isnan(one):
        assert scale.share(one) == 1


@given(st.floats(min_value=0, max_value=1e30), st.floats(min_value=0, max_value=1e30))
def test_greater_errors_have_stronger_colours(one, other):
    assert 0 < depth_of(min(one, other)) <= depth_of(max(one, other)) <= 1


def test_a_place_in_a_map_is_the_worst_of_its_calls(broken):
    layers = layers_of(broken.records)
    of_mlp = [record for record in broken.records if record.boundary == "L03.mlp"]
    shown = layers.cells["mlp"][3]
    assert shown.above_floor == max(record.above_floor for record in of_mlp if record.failed)
    assert layers.numbers == list(range(6))
    assert [record.boundary for record in layers.outside] == ["embed", "final_norm", "logits"]
