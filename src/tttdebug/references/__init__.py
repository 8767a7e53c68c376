# SPDX-License-Identifier: Apache-2.0
"""The truth a port is compared with: loading it, keeping it on disk, and checking that it can be trusted."""

from __future__ import annotations

from tttdebug.references.checks import ReferenceChecks, check_reference
from tttdebug.references.load import NAMES, load_reference
from tttdebug.references.reference import Progress, Reference

__all__ = ["load_reference", "Reference", "NAMES", "check_reference", "ReferenceChecks", "Progress"]
