# SPDX-License-Identifier: Apache-2.0
"""Explaining a run: whose the error is, what causes it, and what removes it."""
