# SPDX-License-Identifier: Apache-2.0
"""The boundaries of a module that is called several times in a step: `norm`, `norm#2`, `norm#3`."""

from __future__ import annotations

from collections.abc import Sequence


def name_of_call(boundaries: Sequence[str], number: int) -> str:
    """The boundary of a module's call, `number` counted from 0, when it stands at these boundaries.

    Calls are dealt to the boundaries in turn, and what comes after the last of them begins anew with a number:
    `norm`, `norm#2`, `norm#3`.
    """
    round_, place = divmod(number, len(boundaries))
    return boundaries[place] if round_ == 0 else f"{boundaries[place]}#{round_ + 1}"


def first_call_of(boundary: str) -> str:
    """The boundary without the number of its call: `norm` of `norm#2`."""
    name, mark, number = boundary.rpartition("#")
    return name if mark and number.isdigit() else boundary
