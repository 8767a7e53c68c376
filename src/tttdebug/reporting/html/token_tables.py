# SPDX-License-Identifier: Apache-2.0
"""Whether both sides predict the same tokens: by phase, where they part, and the texts that they would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tttdebug.reporting.html.markup import Child, Markup, element, folded, section, table
from tttdebug.reporting.wording import size
from tttdebug.tracking.run import Run

FLIPS = 12
_AGREEMENT = ("phase", "tokens", "top-1 equal", "top-5 shared", "KL, mean", "last token", "last token, KL")
_FLIPS = ("call", "after the token", "reference says", "port says", "position", "margin", "KL")


def tokens_section(run: Run) -> Markup | None:
    """None for a model that predicts no tokens."""
    manifest = run.manifest
    if not manifest.agreement and not manifest.continuations:
        return None
    agreed = [_agreement_row(phase, metrics) for phase, metrics in manifest.agreement.items()]
    flips = [line for line in run.tokens if line["reference_top"][0][0] != line["port_top"][0][0]]
    flips.sort(key=lambda line: line["kl"], reverse=True)
    return section(
        "Tokens",
        table(_AGREEMENT, agreed, numbers=6) if agreed else None,
        _parted(flips, len(run.tokens)) if flips else None,
        [_continued(number, texts) for number, texts in enumerate(manifest.continuations, start=1)],
        id_="tokens",
    )


def _agreement_row(phase: str, agreed: Mapping[str, Any]) -> list[Child]:
    return [
        phase,
        f"{agreed['tokens']:,}",
        f"{agreed['top1']:.1%}",
        f"{agreed['top5']:.1%}",
        size(agreed["kl_mean"]),
        "equal" if agreed["last_top1"] else "differs",
        size(agreed["kl_last"]),
    ]


def _parted(flips: Sequence[Mapping[str, Any]], tokens: int) -> Markup:
    """Where the first choices differ. A margin near 0 says that the reference itself was undecided."""
    rows = [
        [
            line["phase"] if line["phase"] == "prefill" else f"{line['phase']} {line['step']}",
            element("code", repr(line["text"])),
            _choice(line["reference_top"][0]),
            _choice(line["port_top"][0]),
            f"{line['position']:,}",
            size(line["margin"]),
            size(line["kl"]),
        ]
        for line in flips[:FLIPS]
    ]
    shown = f", the {len(rows)} with the greatest KL" if len(flips) > len(rows) else ""
    title = f"The first choices differ after {len(flips):,} of {tokens:,} tokens{shown}"
    return folded(title, table(_FLIPS, rows, numbers=3))


def _choice(top: Sequence[Any]) -> list[Child]:
    _, text, probability = top
    return [element("code", repr(text)), f" {probability:.0%}"]


def _continued(number: int, texts: Mapping[str, str]) -> Markup:
    same = texts["reference"] == texts["port"]
    sides = [
        element("dt", "prompt"),
        element("dd", texts["prompt"]),
        element("dt", "both write" if same else "reference writes"),
        element("dd", texts["reference"].strip()),
    ]
    if not same:
        sides += [element("dt", "port writes"), element("dd", texts["port"].strip())]
    title = f"Prompt {number}: {'both sides write the same' if same else 'the sides write different texts'}"
    return folded(title, element("dl", sides, class_="texts"))
