# SPDX-License-Identifier: Apache-2.0
"""Listening to both sides, pairing and aligning them, comparing them, and writing the run."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison, compare
    from tttdebug.tracking.hooks import unrecorded
    from tttdebug.tracking.manifest import Manifest, Skipped
    from tttdebug.tracking.module_spec import ModuleSpecWithReference, compare_outputs
    from tttdebug.tracking.pairing import Pair
    from tttdebug.tracking.record import Key, Record
    from tttdebug.tracking.reference_outputs import get_reference_output, watch_reference
    from tttdebug.tracking.run import Run
    from tttdebug.tracking.side_by_side import track
    from tttdebug.tracking.weight_audit import Audit, audit

_HOME_OF = {
    "Comparison": "comparison",
    "compare": "comparison",
    "compare_outputs": "module_spec",
    "get_reference_output": "reference_outputs",
    "watch_reference": "reference_outputs",
    "Key": "record",
    "Manifest": "manifest",
    "ModuleSpecWithReference": "module_spec",
    "Pair": "pairing",
    "Record": "record",
    "Run": "run",
    "Skipped": "manifest",
    "track": "side_by_side",
    "Audit": "weight_audit",
    "audit": "weight_audit",
    "unrecorded": "hooks",
}

__all__ = [
    "Audit",
    "Comparison",
    "Key",
    "Manifest",
    "ModuleSpecWithReference",
    "Pair",
    "Record",
    "Run",
    "Skipped",
    "compare",
    "compare_outputs",
    "get_reference_output",
    "audit",
    "track",
    "unrecorded",
    "watch_reference",
]


def __getattr__(name: str) -> object:
    """Names are imported when first used, so that reading a run does not wait for torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tttdebug.tracking' has no attribute {name!r}")
    return getattr(import_module(f"tttdebug.tracking.{_HOME_OF[name]}"), name)
