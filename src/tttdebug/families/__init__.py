# SPDX-License-Identifier: Apache-2.0
"""Model families: each file here is one, and is found by being here."""

from tttdebug.families.family import Family
from tttdebug.families.registry import all_families, family_for, register_file
from tttdebug.families.sources import Columns, ExpertRows, HeadRows, NeighbourPairs, Reshaped, Rows, Source, Transposed
from tttdebug.tracking.pairing import CachePair, Pair

__all__ = [
    "Family",
    "Pair",
    "CachePair",
    "Source",
    "Rows",
    "Columns",
    "Transposed",
    "ExpertRows",
    "HeadRows",
    "NeighbourPairs",
    "Reshaped",
    "all_families",
    "family_for",
    "register_file",
]
