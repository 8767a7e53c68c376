# SPDX-License-Identifier: Apache-2.0
"""Blocks of 32 rows, columns or tokens, as tiles have them: which of them, in words."""

from __future__ import annotations

from collections.abc import Sequence

TILE = 32


def ranges(starts: Sequence[int], size: int) -> str:
    """Blocks of 32 as ranges: `64..127, 192..223`; the last of `size` may be shorter."""
    runs: list[list[int]] = []
    for start in starts:
        if runs and runs[-1][1] == start:
            runs[-1][1] = start + TILE
        else:
            runs.append([start, start + TILE])
    return ", ".join(f"{first}..{min(end, size) - 1}" for first, end in runs)
