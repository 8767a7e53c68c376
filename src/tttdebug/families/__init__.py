# SPDX-License-Identifier: Apache-2.0
"""Model families: each file here is one, and is found by being here."""

from tttdebug.families.family import Family, all_families, family_for

__all__ = ["Family", "all_families", "family_for"]
