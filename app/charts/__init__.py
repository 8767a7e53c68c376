# SPDX-License-Identifier: Apache-2.0
"""Altair charts of a run; each function takes plain values or records and gives a chart."""
