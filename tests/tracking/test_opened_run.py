# SPDX-License-Identifier: Apache-2.0
"""A run read by columns says what the same run read whole says, and refuses what that refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run_files import compared, unsealed, written

from tttdebug.errors import RunError
from tttdebug.tracking.growing_records import GrowingRecords
from tttdebug.tracking.line_files import LineFinder
from tttdebug.tracking.opened_run import Call, OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ISOLATED, MANIFEST, PARQUET, PROFILES, RECORDS, Run


def as_text(records: Iterable[Record]) -> list[str]:
    return [str(astuple(record)) for record in records]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four boundaries in two calls, one that fails, one without a number; and two of them alone."""
    records = [compared("embed"), compared("L00.mlp", "diverged", 0.5), compared("embed", step=1)]
    worst = compared("L00.mlp", "nonfinite", math.inf, step=1)
    made = written(tmp_path / "run", *records, worst, save_tensors="all")
    reopened = ReopenedRun(made)
    reopened.append(replace(made.records[0], mode=ISOLATED, input_rel_l2=0.25), compared()[1])
    reopened.append(replace(made.records[1], mode=ISOLATED, verdict="injected"))
    return reopened.finish({}, [], [])


def unfinished(run: Run) -> None:
    """Make it one that still goes on."""
    replace(run.manifest, seals={}, status="unfinished").write(run.path / MANIFEST)


@pytest.fixture(params=["by columns", "by lines"])
def opened(run: Run, request: pytest.FixtureRequest) -> OpenedRun:
    if request.param == "by lines":
        unsealed(run)
        (run.path / PARQUET).unlink()
    return OpenedRun.load(run.path)


def test_it_says_what_the_run_says(run: Run, opened: OpenedRun) -> None:
    assert as_text(opened.records) == as_text(run.records)
    assert as_text(opened.experiments) == as_text(run.experiments)
    assert as_text(opened.failed) == as_text(run.failed)
    assert str(opened.first_divergence()) == str(run.first_divergence())
    assert opened.passed is run.passed is False


def test_records_are_found_by_call(run: Run, opened: OpenedRun) -> None:
    assert list(opened.by_call) == list(dict.fromkeys(map(Call.of, (*run.records, *run.experiments))))
    for call, records in opened.by_call.items():
        assert as_text(records) == as_text(r for r in (*run.records, *run.experiments) if Call.of(r) == call)


def test_a_part_of_the_records_is_a_sequence_of_records(run: Run, opened: OpenedRun) -> None:
    assert str(opened.records[-1]) == str(run.records[-1])
    assert as_text(opened.records[1:3]) == as_text(run.records[1:3])
    failing = opened.records.where(opened.records.column("verdict") == "diverged")
    assert as_text(failing) == as_text(r for r in run.records if r.verdict == "diverged")
    with pytest.raises(IndexError):
        opened.records[4]


def test_a_profile_is_found_alone(run: Run, opened: OpenedRun) -> None:
    for record in (*run.records, *run.experiments):
        assert opened.profile(record.key) == run.profiles.get(record.key)
    assert opened.profile(replace(run.records[0].key, boundary="L0")) is None


def test_a_pair_is_read_in_parts(run: Run, opened: OpenedRun) -> None:
    key = run.records[1].key
    saved, whole = opened.saved_pair(key), run.tensors(key)
    assert saved is not None
    assert whole is not None
    assert (saved.shape, saved.rows, saved.channels) == ((4, 32), 4, 32)
    for part, tensor in zip(saved.part(slice(1, 3), slice(7, 19)), whole, strict=True):
        assert torch.equal(torch.from_numpy(part), tensor[1:3, 7:19])
    assert saved.part(slice(3, 3))[0].shape == (0, 32)
    assert opened.saved_pair(replace(key, step=7)) is None


@pytest.mark.parametrize("name", [RECORDS, PARQUET])
def test_damaged_records_are_refused(run: Run, name: str) -> None:
    content = bytearray((run.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run.path / name).write_bytes(content)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        OpenedRun.load(run.path)


def test_damaged_profiles_and_tensors_are_refused_when_they_are_looked_at(run: Run) -> None:
    key = run.records[1].key
    tensors = run.path / "tensors" / f"{key.file_name}.safetensors"
    for path in (run.path / PROFILES, tensors):
        path.write_bytes(path.read_bytes()[:-3])
    opened = OpenedRun.load(run.path)
    with pytest.raises(RunError, match=r"profiles\.jsonl is damaged"):
        opened.profile(key)
    with pytest.raises(RunError, match="is damaged"):
        opened.saved_pair(key)


@pytest.mark.parametrize("bytes_left", range(0, 400, 37))
def test_a_pair_without_a_seal_is_checked_by_its_own_header(run: Run, bytes_left: int) -> None:
    key = run.records[1].key
    path = unsealed(run).path / "tensors" / f"{key.file_name}.safetensors"
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(RunError, match="is damaged"):
        OpenedRun.load(run.path).saved_pair(key)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_float_dtype_of_a_pair_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    record, profile, reference, port = compared()
    made = written(
        tmp_path / "run", (record, profile, reference[None].to(dtype), port[None].to(dtype)), save_tensors="all"
    )
    saved = OpenedRun.load(made.path).saved_pair(record.key)
    assert saved is not None
    assert saved.shape == (1, 4, 32)
    assert torch.equal(torch.from_numpy(saved.part()[1]), port.to(dtype).float())


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20), st.data())
@settings(max_examples=50, deadline=None)
def test_a_line_is_found_by_its_start_wherever_it_stands(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    path.write_text("".join(json.dumps({"name": name, "at": at}) + "\n" for at, name in enumerate(names)))
    sought = data.draw(st.sampled_from(names))
    start = json.dumps({"name": sought})[:-1] + ", "
    assert LineFinder(path, finished=True).starting(start) == {"name": sought, "at": names.index(sought)}
    assert LineFinder(path, finished=True).starting('{"nobody"') is None


def test_parts_of_lines_are_found_without_the_rest_of_them(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = [
        {"key": {"name": "first"}, "profile": {"other": [1], "part": {"of": [0.5, math.nan]}}},
        {"key": {"name": 'a text, "part": 3'}, "profile": {"other": [2]}},
        {"key": {"name": "unasked"}, "profile": {"other": [3], "part": 4}},
        {"key": {"name": "last"}, "profile": {"other": [5], "part": 6}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"key": {"name": "torn"', encoding="utf-8")
    starts = [
        '{"key": {"name": ' + json.dumps(name) for name in ("last", "first", 'a text, "part": 3', "absent", "torn")
    ]
    found = list(LineFinder(path, finished=False).parts(starts, "part"))
    assert [start for start, _ in found] == [starts[1], starts[0]]
    assert found[0][1]["of"][0] == 0.5
    assert math.isnan(found[0][1]["of"][1])
    assert found[1][1] == 6
    path.write_text('{"key": {"name": "last"}, "profile": {"other": [5], "part": [6}}\n', encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        list(LineFinder(path, finished=True).parts(starts, "part"))


def test_of_an_unfinished_run_a_torn_last_line_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"name": "a", "at": 1}\n{"name": "b", "at"')
    assert LineFinder(path, finished=False).starting('{"name": "b", ') is None
    with pytest.raises(RunError, match="is damaged"):
        LineFinder(path, finished=True).starting('{"name": "b", ')
    assert LineFinder(tmp_path / "none", finished=False).starting("{") is None
    with pytest.raises(RunError, match="is missing"):
        LineFinder(tmp_path / "none", finished=True).starting("{")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        OpenedRun.load(tmp_path)


def test_a_run_that_is_being_written_is_read_on_from_where_it_was(run: Run) -> None:
    unfinished(run)
    lines = (run.path / RECORDS).read_bytes().splitlines(keepends=True)
    growing = GrowingRecords(run.path / RECORDS)
    (run.path / RECORDS).unlink()
    assert len(OpenedRun.load(run.path, growing).records) == 0
    with (run.path / RECORDS).open("ab", buffering=0) as file:
        for number, line in enumerate(lines):
            file.write(line[:30])
            assert len(growing.table()) == number
            file.write(line[30:])
            assert len(growing.table()) == number + 1
    opened = OpenedRun.load(run.path, growing)
    assert as_text([*opened.records, *opened.experiments]) == as_text([*run.records, *run.experiments])


def test_another_run_in_the_same_place_is_read_anew(run: Run) -> None:
    unfinished(run)
    growing = GrowingRecords(run.path / RECORDS)
    lines = (run.path / RECORDS).read_bytes().splitlines(keepends=True)
    assert len(growing.table()) == len(lines)
    (run.path / RECORDS).write_bytes(lines[1])
    assert growing.table().column("boundary").to_pylist() == ["L00.mlp"]
    (run.path / RECORDS).write_bytes(lines[1] + b'{"boundary": 3}\n')
    with pytest.raises(RunError, match=r"records.jsonl, line 2, is damaged \(KeyError"):
        growing.table()
