# SPDX-License-Identifier: Apache-2.0
"""Which of a module's weights belong together, by the names that the port's modules give them."""

from __future__ import annotations


def bias_of(name: str) -> str:
    """The name of the bias that goes with a matrix, as the port's modules have it: `bq` with `wq`."""
    path, _, own = name.rpartition(".")
    bias = "bias" if own == "weight" else f"b{own[1:]}"
    return f"{path}.{bias}" if path else bias
