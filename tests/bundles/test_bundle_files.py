# SPDX-License-Identifier: Apache-2.0
"""What a bundle is made of: Python that holds values only, names that lead nowhere, files whole or not there."""

import ast
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from small_bundles import HOSTILE, small_bundle

from tttdebug.bundles.folder import write_bundle
from tttdebug.bundles.program import DEVICE, Leaf, Op, Program, Value
from tttdebug.bundles.ttnn_source import expression, op_expression
from tttdebug.emulator import ttnn
from tttdebug.errors import BundleError

CORES = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(3, 1))})
SHARDS = ttnn.ShardSpec(CORES, [32, 64], ttnn.ShardOrientation.ROW_MAJOR)


def unchecked(test):
    """Nothing is run before the bundle is put in its place."""


def variable(number):
    return f"v{number}"


@pytest.mark.parametrize(
    "value",
    [
        ttnn.bfloat8_b,
        ttnn.TILE_LAYOUT,
        ttnn.DRAM_MEMORY_CONFIG,
        ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG,
        ttnn.MemoryConfig(ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, SHARDS),
        ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2, fp32_dest_acc_en=True),
        ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(8, 8), q_chunk_size=32, k_chunk_size=64, exp_approx_mode=False
        ),
        ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=2, per_core_M=1, per_core_N=4),
        [ttnn.UnaryOpType.SILU],
        (1, -2.5, "text 'with' quotes", None, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_are_written_as_the_python_that_makes_them_again(value):
    text = expression(value, variable)
    assert eval(text, {"ttnn": ttnn}) == value


def test_tensors_and_the_device_are_written_by_their_names():
    assert expression([Value(3), (DEVICE, 0)], variable) == "[v3, (device, 0)]"
    assert eval(expression(float("-inf"), variable)) == float("-inf")


@pytest.mark.parametrize("value", [object(), torch.zeros(1), type("SILU(); x", (), {"name": "a; b"})()])
def test_what_is_not_known_is_refused_and_never_asked_for_its_own_text(value):
    with pytest.raises(BundleError, match="cannot be written as Python"):
        expression(value, variable)


@pytest.mark.parametrize("name", ["os.system", "ttnn.add;x", "ttnn.", "ttnn.a b", "ttnn"])
def test_only_a_path_within_ttnn_is_an_op(name):
    with pytest.raises(BundleError):
        op_expression(name)


def test_ops_that_the_output_does_not_need_are_dropped_with_their_tensors():
    leaf = Leaf("x", "input", torch.zeros(1, 1, 32, 32), "bfloat16", "TILE", None)
    cache = Leaf("keys", "cache", torch.zeros(1, 1, 32, 32), "bfloat16", "TILE", None)
    program = Program(
        {0: leaf, 1: cache},
        (
            Op("ttnn.silu", (Value(0),), {}, (2,)),
            Op("ttnn.fill_cache", (Value(1), Value(2), 0), {}, (1,)),
            Op("ttnn.add", (Value(2), Value(0)), {}, (3,)),
        ),
        3,
    )
    kept = program.without_idle_ops()
    assert [op.name for op in kept.ops] == ["ttnn.silu", "ttnn.add"]
    assert set(kept.leaves) == {0}
    read_later = Program(program.leaves, (*program.ops, Op("ttnn.exp", (Value(1),), {}, (4,))), 4)
    assert [op.name for op in read_later.without_idle_ops().ops] == ["ttnn.silu", "ttnn.fill_cache", "ttnn.exp"]


def test_names_of_a_hostile_run_stay_text(tmp_path):
    write_bundle(small_bundle(HOSTILE), tmp_path / "bundle", unchecked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.zip"]
    (test,) = (tmp_path / "bundle").glob("test_*.py")
    tree = ast.parse(test.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"importlib.util", "json", "os", "torch", "ttnn"}
    assert "abort" not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    issue = (tmp_path / "bundle" / "ISSUE.md").read_text(encoding="utf-8")
    assert "<img" not in issue
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        names = archive.namelist()
    assert all(".." not in name and not name.startswith("/") for name in names)
    assert len({name.split("/")[0] for name in names}) == 1


def test_the_same_bundle_packs_to_the_same_bytes(tmp_path):
    for place in ("a", "b"):
        write_bundle(small_bundle(), tmp_path / f"{place}.zip", unchecked)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_bundle_whose_test_does_something_else_is_not_written(tmp_path):
    def refuse(test):
        assert test.is_file()
        raise BundleError("it gives another number")

    with pytest.raises(BundleError, match="another number"):
        write_bundle(small_bundle(), tmp_path / "bundle", refuse)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_a_missing_folder_is_named(tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(small_bundle(), tmp_path / "bundle", unchecked)
    with pytest.raises(BundleError, match="there is no folder"):
        write_bundle(small_bundle(), tmp_path / "none" / "bundle", unchecked)


def test_a_kill_while_it_is_written_leaves_no_half_bundle(tmp_path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from small_bundles import small_bundle\n"
        "from tttdebug.bundles.folder import write_bundle\n"
        "def die(test):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bundle(small_bundle(), pathlib.Path(sys.argv[1]), die)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", program, str(tmp_path / "bundle")]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / "bundle.zip").exists()
    write_bundle(small_bundle(), tmp_path / "bundle", unchecked)  # what is left behind is in nobody's way
    assert len(list((tmp_path / "bundle").iterdir())) == 4
