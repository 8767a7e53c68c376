# SPDX-License-Identifier: Apache-2.0
"""Options whose values are a few words."""

from __future__ import annotations

from enum import Enum


class Engine(str, Enum):
    fast = "fast"
    ideal = "ideal"
    exact = "exact"


class SaveTensors(str, Enum):
    all = "all"
    failed = "failed"
    none = "none"


class ReportFormat(str, Enum):
    html = "html"
    md = "md"
    junit = "junit"
    csv = "csv"
    jsonl = "jsonl"
    visualizer = "visualizer"
    refpt = "refpt"
