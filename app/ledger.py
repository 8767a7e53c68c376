# SPDX-License-Identifier: Apache-2.0
"""What was expected, compared and left out, and with which versions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from tttdebug.tracking.opened_run import OpenedRun
from wording import call_name

_NOTES = 5  # that are not folded away


def show_ledger(run: OpenedRun) -> None:
    """Expected, compared, skipped; and every reason with what it kept from being compared."""
    manifest = run.manifest
    missing = manifest.expected - len(run.records) - len(manifest.skipped)
    st.subheader("What was compared", anchor=False)
    counts = {"expected": manifest.expected, "compared": len(run.records), "skipped": len(manifest.skipped)}
    with st.container(horizontal=True):
        for name, count in (counts | ({"not compared": missing} if missing else {})).items():
            st.metric(name, f"{count:,}", width=140)
    if manifest.skipped:
        reasons = Counter(
            (entry.reason, entry.boundary, call_name(entry.phase, entry.step)) for entry in manifest.skipped
        )
        rows = [(boundary, call, count, reason) for (reason, boundary, call), count in reasons.items()]
        st.dataframe(
            pd.DataFrame(rows, columns=["boundary", "call", "times", "why it was skipped"]),
            hide_index=True,
            key="skipped",
        )
    if manifest.unpaired:
        alone = [(entry.side, entry.path, entry.reason) for entry in manifest.unpaired]
        columns = ["side", "module", "why it is unpaired"]
        st.dataframe(pd.DataFrame(alone, columns=columns), hide_index=True, key="unpaired")
    for note in manifest.notes[:_NOTES]:
        st.text(note)
    if more := manifest.notes[_NOTES:]:
        with st.expander(f"{len(more):,} more notes"):
            st.code("\n".join(more), language=None, wrap_lines=True)


def show_manifest(run: OpenedRun) -> None:
    """Everything else that the run says about itself, folded away."""
    manifest = run.manifest
    with st.expander("About this run"):
        if manifest.command:
            st.caption("Command")
            st.code(manifest.command, language="bash", wrap_lines=True)
        described = {
            "folder": run.path,
            "created": manifest.created,
            "state": manifest.status,
            "precision": manifest.precision,
            "decode steps": manifest.decode_steps,
            "prompts": len(manifest.prompts),
            "seed": manifest.seed,
            **_flat("model", manifest.model),
            **_flat("device", manifest.device),
            **_flat("hardware", manifest.hardware),
            **_flat("version", manifest.versions),
        }
        rows = [(name, str(value)) for name, value in described.items() if value is not None]
        st.dataframe(pd.DataFrame(rows, columns=["fact", "value"]), hide_index=True, height="content", key="manifest")


def _flat(name: str, described: Any) -> dict[str, Any]:
    return {f"{name}: {part}": value for part, value in described.items()}
