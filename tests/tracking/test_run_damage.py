# SPDX-License-Identifier: Apache-2.0
"""Runs that were cut short or damaged: each one clear error that names the file, nothing else lost, no wrong value."""

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_tracking import __file__ as KILLED
from test_run_files import compared, manifest, unsealed, written
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.analysis.explanation import Explanation
from tttdebug.errors import RunError
from tttdebug.testing.side import side_of_run
from tttdebug.tracking.op_record import OpRecord
from tttdebug.tracking.record import Key
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import MANIFEST, RECORDS, SEALED, Run
from tttdebug.tracking.writer import RunWriter

LINE_FILES = ("records.jsonl", "profiles.jsonl", "tokens.jsonl", "calls.jsonl", "ops.jsonl")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run with every kind of file: ops, tensors, findings, experiments."""
    reference = td.load_reference(tiny_llama(3, num_hidden_layers=1))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    out = tmp_path_factory.mktemp("tracked") / "run"
    run = td.track(port, reference, [list(range(3, 12))], decode_steps=1, out=out, save_tensors="all", ops=True)
    reopened = ReopenedRun(run)
    reopened.append(type(run.records[0])(**{**vars(run.records[0]), "mode": "isolated"}))
    return reopened.finish({}, [], ["a note"])


def everything(path: Path) -> str:
    """All that can be read of a run."""
    run = Run.load(path)
    tensors = [run.tensors(record.key) for record in run.records]
    parts = [run.manifest, run.records, run.experiments, run.profiles, run.tokens, run.calls, run.op_records]
    parts += [
        Explanation.load(run).notes,
        [[side.tolist() for side in pair] for pair in tensors],
        side_of_run(path).calls,
    ]
    return str(parts)


@pytest.fixture(scope="module")
def whole(tracked):
    return everything(tracked.path)


def copied(run: Run, tmp_path_factory) -> Path:
    return run.save(tmp_path_factory.mktemp("copied") / "run")


def tensor_of(path: Path) -> Path:
    """A file of tensors, as it is called within a run."""
    return sorted((path / "tensors").iterdir())[0].relative_to(path)


# cut short


def test_a_run_killed_at_any_moment_holds_every_record_that_was_reported(tmp_path):
    command = [sys.executable, KILLED, str(tmp_path), "10", "0"]
    paths = os.pathsep.join([*sys.path, str(Path(tiny_llama.__code__.co_filename).parent)])
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths}
    ).stdout
    loaded = 0
    for line in told.splitlines():
        killed = json.loads(line)
        path, reported = Path(killed["run"]), killed["reported"]
        if not (path / MANIFEST).exists():  # killed before its folder was made
            assert not reported
            continue
        run = Run.load(path)
        assert [str(record.key) for record in run.records][: len(reported)] == reported
        assert run.passed == (run.manifest.finished and not run.failed)
        list(run.profiles), run.tokens, run.calls
        loaded += 1
    assert loaded >= 5


@contextmanager
def no_file_above(size: int):
    """Files end at so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 1, 500, 1000, 1500, 2000, 2500, 3000, 5000, 8000, 12_000, 20_000, 60_000])
@pytest.mark.parametrize("save_tensors", ["all", "none"])
def test_a_full_disk_is_one_error_and_what_was_reported_is_kept(tmp_path, size, save_tensors):
    records = [compared(step=step) for step in range(20)]
    path, reported, said = tmp_path / "run", 0, []
    with no_file_above(size):
        try:
            writer = RunWriter(path, manifest(expected=20), save_tensors=save_tensors)
            for record, profile, reference, port in records:
                writer.append(record, profile)
                reported += 1
                writer.offer_tensors(record, reference, port)
            writer.finish()
        except RunError as error:
            said.append(str(error))
            if (path / MANIFEST).exists():
                with suppress(RunError):  # as tracking does; there may be room for it or not
                    writer.fail(error)
    assert bool(said) == (size < 60_000)
    assert all("cannot write" in message and str(path) in message for message in said)
    if not (path / MANIFEST).exists():
        assert not reported
        return
    run = Run.load(path)
    assert [str(record) for record in run.records] == [str(record) for record, *_ in records[: len(run.records)]]
    assert len(run.records) >= reported
    assert run.manifest.finished == (size == 60_000)


def test_a_full_disk_while_tracking_says_so_and_what_was_compared_is_there(tmp_path):
    reference = td.load_reference(tiny_llama(3, num_hidden_layers=1))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    with no_file_above(6000), pytest.raises(RunError, match="cannot write"):
        td.track(port, reference, [list(range(3, 12))], out=tmp_path / "run")
    assert Run.load(tmp_path / "run").records


def add_experiments(run: Run) -> None:
    reopened = ReopenedRun(run)
    for record in run.records:
        reopened.append(type(record)(**{**vars(record), "mode": "isolated"}))
    reopened.finish({}, [], [])


def test_a_full_disk_while_a_run_is_added_to_loses_nothing_of_it(tracked, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    run = Run.load(path)
    with no_file_above(3000), pytest.raises(RunError, match="cannot write"):
        add_experiments(run)
    assert str(Run.load(path).records) == str(tracked.records)


@contextmanager
def another_user():
    """Someone who may not write here; root may write everywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_named(tracked, tmp_path, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    run = Run.load(path)
    with another_user():
        with pytest.raises(RunError, match=f"cannot write a run to {tmp_path}"):
            RunWriter(tmp_path / "run", manifest())
        with pytest.raises(RunError, match=str(path)):
            ReopenedRun(run)
        with pytest.raises(RunError, match=f"cannot write the run to {tmp_path}"):
            run.save(tmp_path / "saved")
    assert str(Run.load(path)) == str(run)


def test_one_of_two_runs_into_one_folder_is_refused(tmp_path):
    script = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from test_run_files import compared, manifest\n"
        "from tttdebug.errors import RunError\n"
        "from tttdebug.tracking.writer import RunWriter\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    writer = RunWriter(pathlib.Path(sys.argv[1]), manifest(expected=5))\n"
        "except RunError as error:\n"
        "    print('refused', error); sys.exit()\n"
        "for step in range(5):\n"
        "    writer.append(*compared(step=step)[:2])\n"
        "print('finished', writer.finish().passed)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run"), str(Path(__file__).parent)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        process.stdout.readline()
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate()[0] for process in both)
    assert said[0] == "finished True\n"
    assert said[1].startswith("refused")
    assert str(tmp_path / "run") in said[1]
    assert Run.load(tmp_path / "run").passed


def test_a_clock_that_goes_backwards_changes_no_number(tmp_path, monkeypatch):
    reference = td.load_reference(tiny_llama(3, num_hidden_layers=1))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - time.perf_counter())
    run = td.track(port, reference, [list(range(3, 12))], out=tmp_path / "run")
    assert not any(record.seconds < 0 for record in run.records)
    assert str(Run.load(run.path).records) == str(run.records)


# damaged


@given(data=st.data())
@settings(max_examples=150)
def test_a_flipped_bit_is_named_or_changes_nothing(tracked, whole, tmp_path_factory, data):
    names = [MANIFEST, *SEALED, str(tensor_of(tracked.path))]
    file = tracked.path / data.draw(st.sampled_from(names))
    path = copied(tracked, tmp_path_factory)
    damaged = path / file.relative_to(tracked.path)
    content = bytearray(damaged.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged.write_bytes(content)
    try:
        found = everything(path)
    except RunError as error:
        assert damaged.name in str(error)  # noqa: PT017 (it may also change nothing)
    else:
        assert found == whole


@pytest.mark.parametrize("name", [MANIFEST, *SEALED])
def test_a_file_that_ends_too_early_is_named(tracked, tmp_path_factory, name):
    path = copied(tracked, tmp_path_factory)
    content = (path / name).read_bytes()
    lengths = range(len(content)) if len(content) < 3000 else range(0, len(content), len(content) // 300)
    for length in lengths:
        (path / name).write_bytes(content[:length])
        with pytest.raises(RunError, match=name):
            everything(path)
    (path / name).unlink()
    with pytest.raises(RunError, match=name):
        everything(path)


def test_a_missing_or_exchanged_tensor_is_named(tracked, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    one, other = sorted((path / "tensors").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(RunError, match=r"\.safetensors is damaged"):
        everything(path)
    one.unlink()
    with pytest.raises(RunError, match=r"\.safetensors cannot be read"):
        everything(path)


@given(data=st.data())
@settings(max_examples=150)
def test_damage_in_a_run_without_seals_gives_no_other_error(tracked, tmp_path_factory, data):
    """An earlier version's run, or one that was cut short: a changed digit cannot be known, all else is named."""
    path = copied(tracked, tmp_path_factory)
    run = unsealed(Run.load(path))
    if data.draw(st.booleans()):
        type(run.manifest)(**{**vars(run.manifest), "seals": {}, "status": "unfinished"}).write(path / MANIFEST)
    damaged = path / data.draw(st.sampled_from([*SEALED, str(tensor_of(path))]))
    content = damaged.read_bytes()
    at, length = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 40))
    damaged.write_bytes(content[:at] + data.draw(st.binary(max_size=10)) + content[at + length :])
    try:
        everything(path)
    except RunError as error:
        assert damaged.name in str(error)  # noqa: PT017 (it may also be read)


def test_a_newer_schema_is_refused_in_words_of_its_own(tracked, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RunError, match=r"manifest\.json has schema 2.*upgrade"):
        everything(path)


def test_a_number_changed_by_hand_is_noticed_in_a_finished_run(tracked, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    text = (path / RECORDS).read_text()
    (path / RECORDS).write_text(text.replace('"pcc": 0.99', '"pcc": 0.98', 1).replace('"pcc": 1.0', '"pcc": 0.5', 1))
    with pytest.raises(RunError, match=r"records\.jsonl is damaged: its SHA-256"):
        Run.load(path)


def test_adding_to_a_run_does_not_seal_damage(tracked, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    run = Run.load(path)
    tokens = (path / "tokens.jsonl").read_bytes()
    (path / "tokens.jsonl").write_bytes(tokens.replace(b"0.", b"1.", 1))
    ReopenedRun(run).finish({}, [], [])
    with pytest.raises(RunError, match=r"tokens\.jsonl is damaged"):
        _ = Run.load(path).tokens


# hostile


@pytest.mark.parametrize("name", [RECORDS, "profiles.jsonl", "records.parquet", "findings.json", "tensors", "figures"])
def test_a_link_that_leads_out_of_a_run_is_refused(tracked, tmp_path, tmp_path_factory, name):
    path = copied(tracked, tmp_path_factory)
    outside = tmp_path / name
    if (path / name).exists():
        (path / name).rename(outside)
    else:
        outside.mkdir()
    (path / name).symlink_to(outside)
    for read in (Run.load, side_of_run):
        with pytest.raises(RunError, match=f"{name} is a link that leads out of its run"):
            read(path)


def test_a_link_within_a_run_or_to_a_run_is_followed(tracked, whole, tmp_path, tmp_path_factory):
    path = copied(tracked, tmp_path_factory)
    (path / "kept.jsonl").write_bytes((path / "tokens.jsonl").read_bytes())
    (path / "tokens.jsonl").unlink()
    (path / "tokens.jsonl").symlink_to("kept.jsonl")
    (tmp_path / "run").symlink_to(path)
    assert everything(tmp_path / "run") == whole


@given(st.text(min_size=1, max_size=400))
@settings(max_examples=60)
def test_any_name_of_a_boundary_is_one_file_inside_the_run(tmp_path_factory, boundary):
    key = Key(boundary)
    assert "/" not in key.file_name
    assert key.file_name not in (".", "..")
    record, profile, reference, port = compared(boundary, "diverged")
    folder = tmp_path_factory.mktemp("named")
    run = written(folder / "run", (record, profile, reference, port))
    assert [path.name for path in (run.path / "tensors").iterdir()] == [f"{key.file_name}.safetensors"]
    assert torch.equal(Run.load(run.path).tensors(key)[1], port)
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_two_long_names_are_two_files():
    names = {Key(f"{'x' * 400}{end}").file_name for end in "ab"}
    assert len(names) == 2
    assert all(len(name) < 240 for name in names)


def test_op_records_are_read_as_what_they_were(tracked):
    assert all(isinstance(op, OpRecord) for op in Run.load(tracked.path).op_records)
    assert {name for name in LINE_FILES if (tracked.path / name).stat().st_size} == set(LINE_FILES)
