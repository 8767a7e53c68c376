# SPDX-License-Identifier: Apache-2.0
"""ttnn-visualizer's databases: what ttnn recorded is read, and a run is written as one that can be read again."""

import math
import sqlite3
from contextlib import closing

import pandas
import pytest
from tiny_llamas import tiny_llama
from typer.testing import CliRunner

import tttdebug as td
from tttdebug.cli import app
from tttdebug.errors import VisualizerError
from tttdebug.reporting.visualizer import read_comparisons, write_database

SHAPE = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 96}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with ops and one without."""
    reference = td.load_reference(tiny_llama(7, **SHAPE))
    folder = tmp_path_factory.mktemp("runs")

    def run(name, ops):
        port = td.build_model(reference, td.open_device("emulated"))
        return td.track(port, reference, [list(range(3, 43))], decode_steps=1, ops=ops, out=folder / name)

    return {"ops": run("with", True), "modules": run("without", False)}


def recorded_by_ttnn(path, ranked):
    """A database as ttnn's comparison mode leaves it; before schema 3 there was no rank."""
    rank, zero = (", rank int NOT NULL DEFAULT 0", ", 0") if ranked else ("", "")
    with closing(sqlite3.connect(path)) as database, database:
        for table in (
            f"operations (operation_id int, name text, duration float{rank})",
            f"output_tensors (operation_id int, output_index int, tensor_id int{rank})",
            f"tensors (tensor_id int, shape text, dtype text{rank})",
            f"local_tensor_comparison_records (tensor_id int, golden_tensor_id int, matches int, desired_pcc float, "
            f"actual_pcc float{rank})",
        ):
            database.execute(f"CREATE TABLE {table}")
        database.execute(f"INSERT INTO operations VALUES (1, 'ttnn.linear', 0.5{zero}), (2, 'ttnn.silu', 0.1{zero})")
        database.execute(f"INSERT INTO output_tensors VALUES (1, 0, 10{zero}), (2, 0, 11{zero})")
        database.execute(f"INSERT INTO tensors VALUES (10, 'Shape([1, 32])', 'DataType.BFLOAT16'{zero})")
        database.execute(f"INSERT INTO tensors VALUES (11, 'Shape([1, 64])', 'DataType.BFLOAT16'{zero})")
        records = "(11, 101, 0, 0.9999, 0.91{0}), (10, 100, 1, 0.9999, 0.99995{0}), (77, 177, 1, 0.9999, 1.0{0})"
        database.execute("INSERT INTO local_tensor_comparison_records VALUES " + records.format(zero))
    return path


@pytest.mark.parametrize("ranked", [True, False], ids=["schema 3.5", "before rank"])
def test_what_ttnn_recorded_is_read(tmp_path, ranked):
    frame = read_comparisons(recorded_by_ttnn(tmp_path / "db.sqlite", ranked))
    assert sorted(frame["tensor_id"]) == [10, 11, 77]
    linear = frame.query("tensor_id == 10").iloc[0]
    assert (linear["operation"], linear["operation_id"], linear["kind"], linear["rank"]) == (
        "ttnn.linear",
        1,
        "local",
        0,
    )
    assert linear["actual_pcc"] == 0.99995
    assert frame.query("tensor_id == 11").iloc[0]["matches"] == 0
    assert pandas.isna(frame.query("tensor_id == 77").iloc[0]["operation"])  # a record whose tensor no operation gave


def test_ranks_are_not_mixed(tmp_path):
    path = recorded_by_ttnn(tmp_path / "db.sqlite", True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO operations VALUES (1, 'ttnn.add', 0.5, 1)")
        database.execute("INSERT INTO output_tensors VALUES (1, 0, 10, 1)")
        database.execute("INSERT INTO local_tensor_comparison_records VALUES (10, 100, 1, 0.9, 0.95, 1)")
    frame = read_comparisons(path)
    assert len(frame) == 4
    assert list(frame.query("tensor_id == 10").sort_values("rank")["operation"]) == ["ttnn.linear", "ttnn.add"]


def test_the_ops_of_a_run_become_operations_with_local_records(runs, tmp_path):
    run = runs["ops"]
    frame = read_comparisons(write_database(run, tmp_path / "db.sqlite"))
    compared = [op for op in run.op_records if not math.isnan(op.pcc)]
    assert set(frame["kind"]) == {"local"}
    assert list(frame.dropna()["actual_pcc"]) == [op.pcc for op in compared]
    assert list(frame["operation"]) == [op.op for op in run.op_records]
    assert frame["matches"].all()
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database:
        count = dict.fromkeys(("operations", "input_tensors", "tensors"), 0)
        for table in count:
            (count[table],) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        modules = {
            value for (value,) in database.execute("SELECT value FROM operation_arguments WHERE name = 'module'")
        }
    assert count["operations"] == len(run.op_records)
    assert count["input_tensors"] == sum(len(op.inputs) for op in run.op_records)
    assert "L01.mlp #3" in modules


def test_the_modules_of_a_run_become_operations_with_global_records(runs, tmp_path):
    run = runs["modules"]
    frame = read_comparisons(write_database(run, tmp_path))
    assert set(frame["kind"]) == {"global"}
    assert list(frame["operation"]) == [record.boundary for record in run.records]
    assert list(frame["actual_pcc"]) == [record.pcc for record in run.records]


def test_every_table_and_column_that_ttnn_writes_is_there(runs, tmp_path):
    path = write_database(runs["ops"], tmp_path / "db.sqlite")
    with closing(sqlite3.connect(path)) as database:
        version = database.execute("SELECT value FROM report_metadata WHERE key = 'schema_version'").fetchone()
        columns = {
            table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            for table in ("operations", "tensors", "local_tensor_comparison_records")
        }
    assert version == ("3.5",)
    assert columns["operations"] == ["operation_id", "name", "duration", "rank"]
    assert columns["tensors"][:4] == ["tensor_id", "shape", "dtype", "layout"]
    assert columns["tensors"][-2:] == ["rank", "storage_type"]
    expected = ["tensor_id", "golden_tensor_id", "matches", "desired_pcc", "actual_pcc", "rank"]
    assert columns["local_tensor_comparison_records"] == expected


def test_no_report_is_overwritten(runs, tmp_path):
    write_database(runs["modules"], tmp_path)
    with pytest.raises(VisualizerError, match="exists"):
        write_database(runs["modules"], tmp_path)
    with pytest.raises(VisualizerError, match="cannot write"):
        write_database(runs["modules"], tmp_path / "absent" / "db.sqlite")


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_truncated_database_is_named(runs, tmp_path, share):
    path = write_database(runs["ops"], tmp_path / "db.sqlite")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VisualizerError, match=r"db\.sqlite"):
        read_comparisons(path)


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.sqlite").write_text("no database, but longer than the header of one " * 20)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as database, database:
        database.execute("CREATE TABLE songs (name text)")
    for name in ("text.sqlite", "other.sqlite", "absent.sqlite"):
        with pytest.raises(VisualizerError, match=name):
            read_comparisons(tmp_path / name)


def test_the_command_writes_a_run_and_prints_a_database(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    written = CliRunner().invoke(app, ["visualizer", str(runs["ops"].path), str(tmp_path)])
    assert written.exit_code == 0, written.output
    assert (tmp_path / "db.sqlite").is_file()
    printed = CliRunner().invoke(app, ["visualizer", str(tmp_path / "db.sqlite")])
    assert printed.exit_code == 0, printed.output
    assert "ttnn.linear" in printed.output
    refused = CliRunner().invoke(app, ["visualizer", str(tmp_path / "db.sqlite"), str(tmp_path / "x")])
    assert isinstance(refused.exception, VisualizerError)
