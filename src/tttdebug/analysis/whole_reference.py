# SPDX-License-Identifier: Apache-2.0
"""Experiments on single modules of a reference need its weights in memory."""

from __future__ import annotations

from tttdebug.errors import AnalysisError
from tttdebug.references import Reference


def refuse_streamed(reference: Reference) -> None:
    """Raise AnalysisError for a reference that is run a layer at a time: its modules cannot be called alone."""
    if reference.stream is not None:
        raise AnalysisError(
            f"{reference.name} is run a layer at a time, and explaining, swapping and bisecting call its modules "
            "alone: load it whole (--no-stream-reference) on a machine that holds it"
        )
