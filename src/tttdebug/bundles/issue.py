# SPDX-License-Identifier: Apache-2.0
"""The text for an issue: what is wrong, how to run it, expected and seen, what was cut, and the cause where known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tttdebug.bundles.bundle import Bundle
from tttdebug.bundles.case import Seen
from tttdebug.bundles.standalone import TENSORS, compared_by
from tttdebug.reporting.markdown_report import code, prose


def issue_text(bundle: Bundle) -> str:
    """Markdown for GitHub; whatever comes from a run is escaped in it."""
    return "\n".join(_sections(bundle)).rstrip() + "\n"


def _sections(bundle: Bundle) -> Iterator[str]:
    yield f"# {prose(bundle.title)}\n"
    yield f"{_sentence(bundle)}\n"
    yield "## How to run it\n"
    yield f"```\npytest test_{bundle.name}.py\n```\n"
    yield (
        f"It needs torch and ttnn, `{TENSORS}` beside it, and nothing of the model or of its port. Where ttnn is not "
        "installed, `pip install tttdebug` gives an emulation of it, which the test then runs on "
        "(`BUNDLE_ON=emulator` asks for it elsewhere).\n"
    )
    yield "## Expected and seen\n"
    yield _table(("", "rel_l2", "PCC", "slope", "greatest error"), list(_rows(bundle)))
    yield f"{_limit(bundle)}\n"
    yield "## What it runs\n"
    yield from (f"{place}. {code(op.name)}" for place, op in enumerate(bundle.shrunk.case.program.ops, 1))
    yield f"\nCompared is {code(compared_by(bundle.shrunk.case), 200)}.\n"
    yield from _cuts(bundle)
    yield from _cause(bundle)
    yield "## Made with\n"
    yield _table(("", ""), list(_environment(bundle)))


def _sentence(bundle: Bundle) -> str:
    captured, shrunk = bundle.captured, bundle.shrunk
    module = f"{code(captured.module)} of a TTNN port of {code(str(bundle.run.manifest.model.get('name', '')))}"
    given = f"for the input that {code(captured.reference_path)} of the reference gets there"
    error = f"rel_l2 {bundle.whole.comparison.rel_l2:.3g} (PCC {bundle.whole.comparison.pcc:.5f})"
    sentence = f"In {prose(str(captured.call).partition(' in ')[2])}, {module} gives an output with {error} {given}."
    if shrunk.op:
        sentence += f" The error is that of one op, {code(shrunk.op)}: this is that op alone, against torch in fp32."
    if not shrunk.seen.fails:
        sentence += " That is within what its number formats explain: **the test passes**."
    return sentence


def _rows(bundle: Bundle) -> Iterator[tuple[str, ...]]:
    yield ("seen", *_numbers(bundle.shrunk.seen))
    if bundle.shrunk.control is not None:
        yield ("a sound port of the same settings, cut in the same way", *_numbers(bundle.shrunk.control))
    yield ("expected", f"≤ {bundle.shrunk.case.limit:.3g}", "", "", "")
    if bundle.shrunk.steps:
        yield ("seen of the whole module", *_numbers(bundle.whole))


def _numbers(found: Seen) -> tuple[str, ...]:
    comparison = found.comparison
    return (
        f"{comparison.rel_l2:.4g}",
        f"{comparison.pcc:.6g}",
        f"{comparison.slope:.5g}",
        f"{comparison.max_abs_diff:.4g}",
    )


def _limit(bundle: Bundle) -> str:
    floor = bundle.shrunk.case.floor
    says = "rel_l2 is ‖seen − golden‖ / ‖golden‖. "
    if math.isnan(floor):
        return says + "The limit is that of the field's PCC gate, since the number formats' own error is not known."
    if bundle.shrunk.op:
        return says + f"Packing the golden in the output's number format costs {floor:.3g}; the limit is 5 times that."
    return (
        says + f"The number formats cause {floor:.3g} by themselves; the limit leaves room for what sound modules add."
    )


def _cuts(bundle: Bundle) -> Iterator[str]:
    yield "## How it was cut down\n"
    if not bundle.shrunk.steps:
        yield "Nothing was cut: this is the whole call of the module.\n"
    yield from (f"- {prose(str(step), 400)}" for step in bundle.shrunk.steps)
    if bundle.shrunk.kept:
        yield f"- not cut, for the failure would be another or none: {prose(', '.join(bundle.shrunk.kept), 400)}"
    yield from (f"- {prose(note, 400)}" for note in bundle.captured.notes)
    yield ""


def _cause(bundle: Bundle) -> Iterator[str]:
    finding = bundle.finding
    if finding is None:
        return
    yield "## Cause\n"
    yield f"{prose(finding.says)} ({code(finding.cause)})\n"
    yield from (f"- {prose(str(experiment))}" for experiment in finding.experiments)
    if finding.fix is not None:
        yield f"- what mends it: {prose(finding.fix.says)}"
    yield ""


def _environment(bundle: Bundle) -> Iterator[tuple[str, str]]:
    manifest = bundle.run.manifest
    yield "model", code(f"{manifest.model.get('name', '')} ({manifest.model.get('architecture', '')})")
    yield "weights' digest", code(str(manifest.model.get("weights_digest", "")), 80)
    device = manifest.device
    grid = "×".join(map(str, device.get("grid", ())))
    kind, architecture, engine = (device.get(name, "") for name in ("kind", "architecture", "engine"))
    yield "device", code(f"{kind}, {architecture}, {grid} cores, engine {engine}")
    yield "precision", code("decoder_config.json" if manifest.precision.endswith(".json") else manifest.precision)
    for name, version in manifest.versions.items():
        yield prose(name), code(version, 80)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
