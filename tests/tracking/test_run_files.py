# SPDX-License-Identifier: Apache-2.0
"""A run's files: what is written comes back, a killed process loses nothing that was compared, damage is named."""

import json
import math
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tttdebug.errors import RunError
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import COLUMNS, Record, metrics_of
from tttdebug.tracking.run import Run
from tttdebug.tracking.writer import RunWriter

DESIGNED_COLUMNS = (
    "boundary, pcc, max_abs_diff, shape, mode, phase, step, user, verdict, rel_l2, slope, norm_ratio, cosine, "
    "mean_abs, rmse, ulp_p50, ulp_p99, ulp_max, worst_token, worst_token_pcc, last_token_pcc, "
    "nonfinite_reference, nonfinite_port, floor_rel_l2, module, reference_path, dtype, adapters, engine, "
    "seconds"
)


def manifest(**changes) -> Manifest:
    model = {"name": "tiny", "source": "made here", "layers": 1}
    device = {"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]}
    return replace(
        Manifest("2026-01-01T00:00:00", model, device, "bf16", ({"text": "a", "tokens": 4},), 0, expected=1), **changes
    )


def compared(boundary="L00.mlp", verdict="ok", error=0.01, step=0):
    reference = torch.randn(4, 32)
    port = reference + error * torch.randn(4, 32)
    comparison = compare(reference, port)
    record = Record(
        boundary=boundary,
        mode="accumulated",
        phase="prefill",
        step=step,
        user=0,
        verdict=verdict,
        floor_rel_l2=math.nan,
        module="layers.0.feed_forward",
        reference_path="model.layers.0.mlp",
        dtype="bfloat16",
        adapters=("squeeze",),
        engine="fast",
        seconds=0.5,
        **metrics_of(comparison),
    )
    return record, comparison.profile, reference, port


def written(path, *records, **options) -> Run:
    writer = RunWriter(path, manifest(expected=len(records)), **options)
    for record, profile, reference, port in records:
        writer.append(record, profile)
        writer.offer_tensors(record, reference, port)
    return writer.finish()


def unsealed(run: Run) -> Run:
    """The run as an earlier version left it, without digests of its files."""
    replace(run.manifest, seals={}).write(run.path / "manifest.json")
    return run


def test_columns_are_those_of_the_design_in_that_order():
    assert COLUMNS[: len(DESIGNED_COLUMNS.split(", "))] == tuple(DESIGNED_COLUMNS.split(", "))


def test_a_manifest_keeps_the_job_and_one_of_an_earlier_version_has_none(tmp_path):
    path = tmp_path / "manifest.json"
    job = {"model": "llama", "layers": 2, "token_ids": ["5 17"], "port": None}
    manifest(job=job).write(path)
    assert Manifest.read(path).job == job
    content = json.loads(path.read_text())
    del content["job"], content["digest"]
    path.write_text(json.dumps(content))
    assert Manifest.read(path).job == {}


@pytest.mark.parametrize("out", ["--out runs/a", "--out=runs/a", "--out 'my runs/a'"])
def test_the_command_that_makes_a_run_again_names_no_folder_that_is_taken(out):
    made = manifest(command=f"tttdebug run {out} --seed 3")
    assert made.command_again == "tttdebug run --seed 3"


def test_a_run_comes_back_as_it_was(tmp_path):
    records = [compared(), compared("L00.layer_out", "floor", math.inf), compared("logits")]
    run = written(tmp_path / "run", *records)
    loaded = Run.load(run.path)
    assert [str(record) for record in loaded.records] == [str(record) for record, *_ in records]
    assert loaded.manifest == run.manifest
    assert loaded.passed
    assert list(loaded.frame.columns) == list(COLUMNS)
    profile = loaded.profiles[records[0][0].key]
    assert profile["token_rel_l2"] == list(records[0][1].token_rel_l2)

    import pandas

    assert list(pandas.read_parquet(run.path / "records.parquet")["boundary"]) == list(loaded.frame["boundary"])


def test_the_scores_of_routers_are_kept_although_they_hold(tmp_path):
    run = written(tmp_path / "run", compared(), compared("L00.router"), compared("L00.layer_out"))
    assert [run.tensors(record.key) is not None for record in run.records] == [False, True, False]
    none = written(tmp_path / "none", compared("L00.router"), save_tensors="none")
    assert none.tensors(none.records[0].key) is None


def test_saving_keeps_a_temporary_run_and_never_overwrites(tmp_path):
    run = written(None, compared())
    assert str(Run.load(run.save(tmp_path / "kept")).records) == str(run.records)
    with pytest.raises(RunError, match="exists already"):
        run.save(tmp_path / "kept")


def test_tensors_are_kept_of_failures_and_of_the_neighbours_of_the_first(tmp_path):
    verdicts = {"a": "ok", "b": "ok", "c": "diverged", "d": "ok", "e": "ok", "f": "diverged", "g": "ok"}
    records = [compared(boundary, verdict) for boundary, verdict in verdicts.items()]
    run = written(tmp_path / "run", *records)
    kept = {record.boundary for record, *_ in records if run.tensors(record.key) is not None}
    assert kept == {"b", "c", "d", "f"}
    _, _, reference, port = records[2]
    saved_reference, saved_port = run.tensors(records[2][0].key)
    assert torch.equal(saved_reference, reference)
    assert torch.equal(saved_port, port)
    assert run.first_divergence().boundary == "c"


def test_the_tensor_budget_is_kept_and_its_end_is_said(tmp_path):
    records = [compared(f"b{i}", "diverged") for i in range(5)]
    run = written(tmp_path / "run", *records, save_tensors="all", tensor_budget=2 * 2 * 4 * 32 * 4)
    assert sum(run.tensors(record.key) is not None for record, *_ in records) == 2
    (note,) = (note for note in run.manifest.notes if "budget" in note)
    assert str(records[2][0].key) in note
    assert "--tensor-budget" in note


def test_a_killed_run_loads_with_every_record_that_was_reported(tmp_path):
    script = textwrap.dedent(
        """
        import sys, pathlib
        sys.path.insert(0, sys.argv[2])
        from test_run_files import compared, manifest
        from tttdebug.tracking.writer import RunWriter
        writer = RunWriter(pathlib.Path(sys.argv[1]), manifest(expected=10_000))
        for step in range(10_000):
            record, profile, *_ = compared(step=step)
            writer.append(record, profile)
            print(step, flush=True)
        """
    )
    path = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    reported = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    run = Run.load(path)
    assert not run.passed
    assert run.manifest.status == "unfinished"
    last_reported = int(rest[-1]) if rest and rest[-1].isdigit() else reported[-1]
    assert [record.step for record in run.records][: last_reported + 1] == list(range(last_reported + 1))


def test_every_truncation_of_a_finished_run_is_noticed(tmp_path):
    run = written(tmp_path / "run", compared(), compared("logits"))
    path = run.path / "records.jsonl"
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"records\.jsonl"):
            Run.load(run.path)


@pytest.mark.parametrize("length", [0, 1, 10, 100])
def test_an_unfinished_run_may_end_in_the_middle_of_a_line(tmp_path, length):
    writer = RunWriter(tmp_path / "run", manifest())
    writer.append(*compared()[:2])
    with (tmp_path / "run" / "records.jsonl").open("a") as file:
        file.write(json.dumps(compared()[0].to_json())[:length])
    assert len(Run.load(tmp_path / "run").records) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "manifest.json").unlink(), "is not a run"),
        (lambda run: (run / "manifest.json").write_text("{"), "is damaged"),
        (lambda run: (run / "manifest.json").write_text("[]"), "not the manifest"),
        (lambda run: (run / "manifest.json").write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda run: (run / "manifest.json").write_text('{"schema": 99}'), "schema 99.*upgrade"),
        (lambda run: (run / "manifest.json").write_text('{"schema": 1}'), "lacks a part"),
        (lambda run: (run / "records.jsonl").unlink(), "is missing"),
        (lambda run: (run / "records.jsonl").write_text("garbage\n"), "line 1"),
        (lambda run: (run / "records.jsonl").write_text("{}\n"), "line 1.*not a record"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, damage, message):
    run = unsealed(written(tmp_path / "run", compared()))
    damage(run.path)
    with pytest.raises(RunError, match=message):
        Run.load(run.path)


def test_a_folder_that_cannot_hold_a_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write a run"):
        RunWriter(tmp_path / "file" / "run", manifest())
    with pytest.raises(RunError, match="not empty"):
        RunWriter(tmp_path, manifest())


def test_a_finished_run_that_skipped_something_has_not_passed(tmp_path):
    writer = RunWriter(tmp_path / "run", manifest(expected=2))
    writer.append(*compared()[:2])
    assert not writer.finish().passed


def test_an_empty_run_has_not_passed(tmp_path):
    assert not RunWriter(tmp_path / "run", manifest(expected=0)).finish().passed


def test_a_boundary_may_be_called_anything_and_its_tensors_stay_inside_the_run(tmp_path):
    record, profile, reference, port = compared("../../x/L00.mlp %", "diverged")
    run = written(tmp_path / "run", (record, profile, reference, port))
    assert torch.equal(run.tensors(record.key)[1], port)
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"run"}


@pytest.mark.parametrize(
    "line", ["{}", '{"key": 1, "profile": {}}', '{"key": {"boundary": "a", "odd": 1}, "profile": {}}']
)
def test_a_damaged_profile_is_named(tmp_path, line):
    run = unsealed(written(tmp_path / "run", compared()))
    (run.path / "profiles.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"profiles\.jsonl, line 1"):
        _ = Run.load(run.path).profiles
