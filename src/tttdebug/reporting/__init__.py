# SPDX-License-Identifier: Apache-2.0
"""Runs told to people and programs: console tables, JSON, figures, and the start of the dashboard."""
