# SPDX-License-Identifier: Apache-2.0
"""`tttdebug report` writes a saved run in each format where it is told to, and says why where it cannot."""

from __future__ import annotations

import shutil

import pytest
import sample_runs
from typer.testing import CliRunner

from tttdebug.cli import app
from tttdebug.commands.choices import ReportFormat
from tttdebug.errors import ReportError, RunError, TokenReferenceError, VisualizerError
from tttdebug.references.refpt import read_refpt, token_accuracy
from tttdebug.reporting.visualizer import read_comparisons

FILES = {
    "html": ("report.html", b"<!doctype html>"),
    "md": ("report.md", "### ❌ FAIL".encode()),
    "junit": ("report.xml", b"<?xml"),
    "csv": ("report.csv", b"boundary,pcc,max_abs_diff,shape,"),
    "jsonl": ("report.jsonl", b'{"run": "broken", "boundary": "embed"'),
    "visualizer": ("db.sqlite", b"SQLite format 3"),
    "refpt": ("tokens.refpt", b"PK"),
}


def report(*arguments: object):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def copied(broken, tmp_path):
    """The broken run in a folder of its own."""
    return shutil.copytree(broken.path, tmp_path / "broken")


def test_every_format_is_tried_here():
    assert set(FILES) == {one.value for one in ReportFormat}


@pytest.mark.parametrize("format_", FILES)
def test_a_report_is_written_into_the_run_or_where_it_is_told(copied, tmp_path, format_):
    name, begins = FILES[format_]
    told = tmp_path / "elsewhere" / f"own-{name}"
    told.parent.mkdir()
    for path, options in ((copied / name, ()), (told, ("--out", told))):
        result = report(copied, "--format", format_, *options)
        assert result.exit_code == 0, result.output
        assert result.output == f"written: {path}\n"
        assert path.read_bytes().startswith(begins)


def test_the_page_is_the_default_and_replaces_an_earlier_one(copied):
    (copied / "report.html").write_text("an earlier report")
    assert report(copied).exit_code == 0
    assert (copied / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_text_can_be_printed(copied):
    printed = report(copied, "-f", "csv", "--out", "-")
    assert printed.stdout_bytes.startswith(FILES["csv"][1])
    assert not (copied / "report.csv").exists()
    assert isinstance(report(copied, "-f", "visualizer", "--out", "-").exception, ReportError)


def test_the_token_reference_is_the_text_that_was_run(broken, copied):
    assert report(copied, "-f", "refpt").exit_code == 0
    reference = read_refpt(copied / "tokens.refpt")
    assert list(reference.token_ids) == [line["token"] for line in broken.tokens]
    assert len(reference.top5) == sample_runs.PROMPT_TOKENS + sample_runs.DECODE_STEPS
    agreed = broken.manifest.agreement
    equal = sum(agreed[phase]["top1"] * agreed[phase]["tokens"] for phase in agreed)
    assert token_accuracy(broken, reference).top1 == pytest.approx(equal / len(reference))


def test_a_run_without_tokens_or_with_several_texts_gives_no_token_reference(tmp_path):
    sample_runs.write_run_with_the_incomparable(tmp_path / "mute")
    assert "predicts no tokens" in str(report(tmp_path / "mute", "-f", "refpt").exception)
    two = sample_runs.write_run(tmp_path / "two", users=2)
    refused = report(two.path, "-f", "refpt").exception
    assert isinstance(refused, TokenReferenceError)
    assert "read 2 texts" in str(refused)


def test_the_database_is_the_visualizers(broken, copied):
    assert report(copied, "-f", "visualizer").exit_code == 0
    assert list(read_comparisons(copied / "db.sqlite")["operation"]) == [record.boundary for record in broken.records]
    assert isinstance(report(copied, "-f", "visualizer").exception, VisualizerError)


def test_what_cannot_be_written_or_read_is_named(copied, tmp_path):
    nowhere = report(copied, "--out", tmp_path / "absent" / "report.html").exception
    assert isinstance(nowhere, ReportError)
    assert "is no folder" in str(nowhere)
    assert isinstance(report(copied, "--out", copied).exception, ReportError)
    assert isinstance(report(tmp_path).exception, RunError)
    assert report(copied, "--format", "docx").exit_code == 2
