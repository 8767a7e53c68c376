# SPDX-License-Identifier: Apache-2.0
"""A program that says `import ttnn` runs unchanged on the emulator."""

import subprocess
import sys
import textwrap

import pytest

from tttdebug import emulator
from tttdebug.emulator import EmulatorError

PROGRAM = """
import sys

import torch
import ttnn
import ttnn.transformer
from ttnn import ShardTensorToMesh, conv2d
from ttnn.device import is_wormhole_b0


def main():
    device = ttnn.open_device(device_id=0)
    x = ttnn.from_torch(torch.ones(32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    total = ttnn.to_torch(ttnn.sum(ttnn.linear(x, x)))
    print(__name__, sys.argv[1:], total.item(), device.engine.name, is_wormhole_b0(device), ttnn.transformer.__name__)
    ttnn.close_device(device)
    if "conv" in sys.argv:
        conv2d(input_tensor=x)
    sys.exit(3 if "leave" in sys.argv else 0)


if __name__ == "__main__":
    main()
"""


def modules_of_ttnn():
    return [name for name in sys.modules if name == "ttnn" or name.startswith("ttnn.")]


@pytest.fixture
def no_ttnn(monkeypatch):
    for name in modules_of_ttnn():
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in modules_of_ttnn():  # what the test itself imported
        del sys.modules[name]


def test_the_emulator_is_ttnn_until_it_is_uninstalled(no_ttnn):
    installation = emulator.install(engine="ideal")
    try:
        import ttnn
        from ttnn import ShardTensorToMesh, bfloat16
        from ttnn.transformer import scaled_dot_product_attention
        from ttnn.types import TILE_LAYOUT

        assert ttnn is emulator.ttnn
        assert ttnn.open_device(device_id=5).engine.name == "ideal"
        assert scaled_dot_product_attention is ttnn.transformer.scaled_dot_product_attention
        assert (bfloat16, TILE_LAYOUT) == (ttnn.bfloat16, ttnn.TILE_LAYOUT)
        assert ShardTensorToMesh is ttnn.distributed.ShardTensorToMesh
    finally:
        installation.uninstall()
    assert not [name for name in sys.modules if name == "ttnn" or name.startswith("ttnn.")]
    assert emulator.ttnn.open_device(device_id=5).engine.name == "fast"


def test_it_lasts_as_long_as_a_with_block(no_ttnn):
    with emulator.install() as namespace:
        assert sys.modules["ttnn"] is namespace
        with pytest.raises(EmulatorError, match="the emulator is installed already"):
            emulator.install()
    assert "ttnn" not in sys.modules


def test_it_refuses_to_stand_beside_another_ttnn(no_ttnn, monkeypatch, tmp_path):
    (tmp_path / "ttnn.py").write_text("other = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    import ttnn

    assert ttnn.other
    with pytest.raises(EmulatorError, match=r"ttnn was imported already, from .*ttnn\.py"):
        emulator.install()
    assert sys.modules["ttnn"] is ttnn


@pytest.mark.parametrize("wrong", [{"engine": "slow"}, {"architecture": "grayskull"}, {"grid": (0, 1)}])
def test_unknown_options_are_refused_and_nothing_is_installed(no_ttnn, wrong):
    with pytest.raises(EmulatorError, match=next(iter(wrong))):
        emulator.install(**wrong)
    assert "ttnn" not in sys.modules


def test_a_name_that_ttnn_does_not_have_cannot_be_imported(no_ttnn):
    with emulator.install(), pytest.raises(ImportError, match="cannot import name 'linaer'"):
        from ttnn import linaer  # noqa: F401


def tttdebug(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tttdebug.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "demo.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def test_a_script_runs_unchanged_with_its_own_arguments(program):
    done = tttdebug("run", "--engine", "ideal", "--as-ttnn", program, "--engine", "mine", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == ("__main__ ['--engine', 'mine', '-q'] 32768.0 ideal True ttnn.transformer")


def test_a_scripts_exit_code_is_passed_on(program):
    assert tttdebug("run", "--as-ttnn", program, "leave").returncode == 3


def test_a_scripts_error_is_shown_as_python_shows_it(program):
    done = tttdebug("run", "--as-ttnn", program, "conv")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "NotEmulatedError: ttnn.conv2d is not emulated" in done.stderr
    assert "runpy" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--as-ttnn"], "--as-ttnn needs a script"),
        (["demo.py"], "put --as-ttnn before it"),
        (["--as-ttnn", "nowhere.py"], "nowhere.py is not a file"),
    ],
)
def test_what_is_wrong_with_the_command_is_said(arguments, says):
    done = tttdebug("run", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
