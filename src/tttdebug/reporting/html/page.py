# SPDX-License-Identifier: Apache-2.0
"""The HTML report of a run: one file that needs nothing else, on a screen, in the dark, and on paper."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from tttdebug.reporting.html.about import about_section
from tttdebug.reporting.html.depth_chart import depth_charts
from tttdebug.reporting.html.finding_cards import findings_section
from tttdebug.reporting.html.heat_map import heat_map, key
from tttdebug.reporting.html.layers import layers_of
from tttdebug.reporting.html.ledger import ledger_section
from tttdebug.reporting.html.marks import colour_rules, definitions, legend
from tttdebug.reporting.html.markup import Markup, element, folded, joined, section
from tttdebug.reporting.html.record_tables import failing_section, worst_section
from tttdebug.reporting.html.token_tables import tokens_section
from tttdebug.reporting.html.weights import weights_section
from tttdebug.reporting.summary import run_id, summary_of
from tttdebug.reporting.wording import counted
from tttdebug.tracking.run import ISOLATED

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing. Not even its own text could run a script."""


def html_report(run: Run, explanation: Explanation | None) -> str:
    """The whole page. Every text of the run is escaped."""
    summary = summary_of(run, explanation)
    title = f"{summary.outcome}: {run.manifest.model.get('name', 'run')}, {run_id(run)}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", _style()),
    )
    sections = (
        findings_section(explanation, f"tttdebug explain {run.path}"),
        _depth(run),
        _map(run),
        failing_section(run),
        worst_section(run),
        tokens_section(run),
        weights_section(run),
        ledger_section(run),
        about_section(run),
    )
    body = element("body", definitions(), _header(run, explanation), element("main", sections))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _style() -> Markup:
    rules = files("tttdebug.reporting.html").joinpath("style.css").read_text(encoding="utf-8")
    return Markup(f"{rules}\n{colour_rules()}")


def _header(run: Run, explanation: Explanation | None) -> Markup:
    manifest, summary = run.manifest, summary_of(run, explanation)
    kind, architecture, engine = (manifest.device.get(name, "") for name in ("kind", "architecture", "engine"))
    tokens = ", ".join(counted(prompt["tokens"], "token") for prompt in manifest.prompts if "tokens" in prompt)
    facts = [
        str(manifest.model.get("name", "")),
        f"{manifest.precision} precision" if manifest.precision else "",
        f"{kind} {architecture}, {engine} engine",
    ]
    facts.append(f"prompt of {tokens}" if tokens else "")
    facts.append(counted(manifest.decode_steps, "decode step") if manifest.decode_steps else "")
    return element(
        "header",
        element("p", " · ".join(filter(None, facts)), class_="quiet"),
        element("h1", element("span", summary.outcome, class_=f"outcome {summary.outcome.lower()}"), summary.headline),
        [element("p", sentence) for sentence in summary.sentences],
    )


def _depth(run: Run) -> Markup | None:
    prefill, decode = ([record for record in run.records if record.phase == phase] for phase in ("prefill", "decode"))
    if not run.records:
        return None
    return section(
        "Error over depth",
        element(
            "p",
            "rel_l2 against the reference over the layers, logarithmic. The ",
            element("span", "shaded band", class_="band-key"),
            " is what the number formats explain, from their floor up; filled marks are the port as it ran, with the "
            "errors of all modules before it",
            ", rings the module alone on the reference's input." if run.experiments else ".",
            class_="quiet",
        ),
        legend({record.verdict for record in run.records}),
        _phase(run, prefill) if prefill else None,
        folded("Decode: the worst of all steps", _phase(run, decode)) if decode else None,
        id_="depth",
    )


def _phase(run: Run, records: list[Record]) -> Markup:
    phase = records[0].phase
    alone = [record for record in run.experiments if record.mode == ISOLATED and record.phase == phase]
    return depth_charts(layers_of(records), layers_of(alone))


def _map(run: Run) -> Markup | None:
    alone = [record for record in run.experiments if record.mode == ISOLATED]
    if not run.records:
        return None
    maps = [heat_map(layers_of(run.records), "as the port ran: the worst of all calls")]
    if alone:
        maps.append(heat_map(layers_of(alone), "each module alone, on the reference's input"))
    return section("Layers and modules", key(), legend({one.verdict for one in run.records}), joined(maps), id_="map")
