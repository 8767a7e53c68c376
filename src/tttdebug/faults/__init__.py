# SPDX-License-Identifier: Apache-2.0
"""Faults that can be put into a sound port, and harmless changes, to measure whether an explanation finds them."""

from tttdebug.faults.catalogue import FAULTS, fault_named, inject, sites
from tttdebug.faults.site import Fault, Site

__all__ = ["FAULTS", "Fault", "Site", "fault_named", "inject", "sites"]
