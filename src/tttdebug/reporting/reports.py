# SPDX-License-Identifier: Apache-2.0
"""The formats that a run can be written in, and the writing of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tttdebug.analysis.explanation import Explanation
from tttdebug.errors import ReportError
from tttdebug.references.refpt import token_reference, write_refpt
from tttdebug.reporting.csv_report import csv_report
from tttdebug.reporting.html.page import html_report
from tttdebug.reporting.jsonl_report import jsonl_report
from tttdebug.reporting.junit_report import junit_report
from tttdebug.reporting.markdown_report import markdown_report
from tttdebug.reporting.visualizer import write_database
from tttdebug.tracking.run import Run


@dataclass(frozen=True)
class TextFormat:
    """A report that is text: what its file is called in a run's folder, and what makes it."""

    file_name: str
    text: Callable[[Run, Explanation | None], str]


TEXT_FORMATS = {
    "html": TextFormat("report.html", html_report),
    "csv": TextFormat("report.csv", lambda run, _: csv_report(run)),
    "jsonl": TextFormat("report.jsonl", lambda run, _: jsonl_report(run)),
    "md": TextFormat("report.md", markdown_report),
    "junit": TextFormat("report.xml", junit_report),
}


def report_text(run: Run, format_: str) -> str:
    """The report as text. Raises ReportError for a format that is no text, RunError for a damaged run."""
    if format_ not in TEXT_FORMATS:
        raise ReportError(f"{format_} is no text and cannot be printed; name a file with --out")
    return TEXT_FORMATS[format_].text(run, Explanation.load(run))


def write_report(run: Run, format_: str, out: Path | None = None) -> Path:
    """Write a run in one of the formats, by default into its folder, and give the file's path.

    A text of an earlier report is replaced. Raises ReportError when the file cannot be written, VisualizerError and
    TokenReferenceError where the run cannot be a database or a token reference.
    """
    if format_ == "visualizer":
        return write_database(run, out or run.path)
    if format_ == "refpt":
        reference = token_reference(run)
        path = out or run.path / "tokens.refpt"
        _written(path, lambda: write_refpt(reference, path))
        return path
    text = report_text(run, format_)
    path = out or run.path / TEXT_FORMATS[format_].file_name
    _written(path, lambda: path.write_bytes(text.encode(errors="backslashreplace")))
    return path


def _written(path: Path, write: Callable[[], object]) -> None:
    if not path.parent.is_dir():
        raise ReportError(f"cannot write {path}: {path.parent} is no folder; make it, or choose another with --out")
    try:
        write()
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}; choose another file with --out") from None
