# SPDX-License-Identifier: Apache-2.0
"""Spreadsheets and scripts read back each record of a run, with every digit."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from tttdebug.reporting.csv_report import csv_report
from tttdebug.reporting.jsonl_report import jsonl_report
from tttdebug.tracking.record import COLUMNS, Record


@pytest.mark.parametrize("name", ["broken", "hostile", "incomparable"])
def test_the_csv_holds_every_record_with_every_digit(name, request):
    run = request.getfixturevalue(name)
    text = csv_report(run)
    assert text.startswith("boundary,pcc,max_abs_diff,shape,")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    records = [*run.records, *run.experiments]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert tuple(row) == COLUMNS
        assert row["shape"] == "x".join(map(str, record.shape))
        for column in COLUMNS:
            value = getattr(record, column)
            if isinstance(value, float):
                assert float(row[column]) == value or (math.isnan(value) and row[column] == "nan")
            elif isinstance(value, str):
                assert row[column] == value


def test_csv_lines_end_and_quote_as_the_standard_says(hostile):
    text = csv_report(hostile)
    assert text.endswith("\r\n")
    assert '"L03.comma, ""quote""\nand a second line & &amp; @someone #1"' in text


@pytest.mark.parametrize("name", ["broken", "hostile", "incomparable"])
def test_json_lines_are_the_records_with_their_run(name, request):
    run = request.getfixturevalue(name)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in jsonl_report(run).splitlines()]
    assert {line.pop("run") for line in lines} == {name}
    assert all(tuple(line) == COLUMNS for line in lines)
    assert list(map(str, map(Record.from_json, lines))) == list(map(str, [*run.records, *run.experiments]))
