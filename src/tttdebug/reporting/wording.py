# SPDX-License-Identifier: Apache-2.0
"""How numbers, calls and foreign text read in a report."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.tracking.record import Record

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """`text` without the characters that neither XML nor UTF-8 can hold; U+FFFD stands where they were."""
    return _UNPRINTABLE.sub("\ufffd", text)


def clipped(text: str, longest: int) -> str:
    """`text` in one line, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def size(value: float) -> str:
    """A length, ratio or difference in three digits."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:#.3g}".rstrip(".") if value else "0"


def correlation(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else str(value)


def times(value: float) -> str:
    """A factor: 2.4 ×, 55 ×; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.1f} ×" if value < 10 else f"{value:,.0f} ×"


def call_of(record: Record) -> str:
    """As in `prefill`, `decode 3`, `decode 3, user 1`."""
    call = "prefill" if (record.phase, record.step) == ("prefill", 0) else f"{record.phase} {record.step}"
    return f"{call}, user {record.user}" if record.user else call


def counted(number: int, noun: str) -> str:
    """As in `1 comparison`, `1,917 comparisons`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
