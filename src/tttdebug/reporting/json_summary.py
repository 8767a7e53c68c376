# SPDX-License-Identifier: Apache-2.0
"""A run as one JSON object, for scripts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.references.refpt import TokenAccuracy
    from tttdebug.tracking.run import Run


def dumps(run: Run, token_accuracy: TokenAccuracy | None = None, explanation: Explanation | None = None) -> str:
    """Verdict, counts, first divergence, findings, token agreement, and where the run is.

    Non-finite numbers are strings. `findings` is null for a run that was not explained.
    """
    divergence = run.first_divergence()
    manifest = run.manifest
    summary = {
        "passed": run.passed,
        "status": manifest.status,
        "run": str(run.path),
        "weights": manifest.weights,
        "model": manifest.model["name"],
        "precision": manifest.precision,
        "device": manifest.device,
        "golden": manifest.golden,
        "expected": manifest.expected,
        "compared": manifest.compared,
        "skipped": [asdict(entry) for entry in manifest.skipped],
        "unpaired": [asdict(entry) for entry in manifest.unpaired],
        "verdicts": Counter(record.verdict for record in run.records),
        "first_divergence": divergence.to_json() if divergence else None,
        "findings": None if explanation is None else [finding.to_json() for finding in explanation],
        "explanation_notes": None if explanation is None else explanation.notes,
        "agreement": manifest.agreement,
        "continuations": manifest.continuations,
        "notes": manifest.notes,
        "token_accuracy": None if token_accuracy is None else asdict(token_accuracy),
    }
    return json.dumps(summary, indent=1)
