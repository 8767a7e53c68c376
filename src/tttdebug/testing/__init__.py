# SPDX-License-Identifier: Apache-2.0
"""Accuracy in tests: assertions about two tensors, and the `accuracy_gate` fixture of the pytest plugin."""

from tttdebug.testing.assertions import assert_pcc, assert_rel_l2, assert_within_floor
from tttdebug.testing.gate import AccuracyGate

__all__ = ["assert_pcc", "assert_rel_l2", "assert_within_floor", "AccuracyGate"]
