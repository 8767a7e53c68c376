# SPDX-License-Identifier: Apache-2.0
"""`FILE_OR_MODULE:build` finds a user's functions, and says what is wrong where it does not."""

import sys

import pytest

from tttdebug.errors import PortError
from tttdebug.tracking.port_source import load_port_builder

FILE = """
from dataclasses import dataclass
import neighbour_of_a_port

@dataclass
class Port:
    x: int

def build(reference, device):
    return Port(neighbour_of_a_port.NUMBER)

def other(reference, device):
    return "other"

def prefill(port, token_ids):
    return ("prefill", port.x, token_ids)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "a_port_of_mine.py").write_text(FILE)
    (tmp_path / "neighbour_of_a_port.py").write_text("NUMBER = 41\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "a_port_of_mine.py"
    for name in ("a_port_of_mine", "neighbour_of_a_port"):
        sys.modules.pop(name, None)


def test_a_file_its_neighbours_and_the_functions_beside_build_are_found(file):
    source = load_port_builder(f"{file}:build")
    port = source.build(None, None)
    prefill, decode = source.drivers_of(port)
    assert port.x == 41
    assert prefill(port, [5]) == ("prefill", 41, [5])
    assert decode is None


@pytest.mark.parametrize("spec", ["{file}", "{file}:build", "{module}:build", "{module}"])
def test_a_file_or_a_module_with_or_without_the_name(file, spec):
    sys.path.insert(0, str(file.parent))
    assert load_port_builder(spec.format(file=file, module="a_port_of_mine")).build(None, None).x == 41
    assert load_port_builder(f"{file}:other").build(None, None) == "other"


def test_what_the_port_itself_offers_comes_first(file):
    class Own:
        def prefill(self, token_ids):
            return "own prefill", token_ids

        def decode(self, token_ids, positions):
            return "own decode", token_ids, positions

    port = Own()
    prefill, decode = load_port_builder(f"{file}:build").drivers_of(port)
    assert prefill(port, [1]) == ("own prefill", [1])
    assert decode(port, [1], [2]) == ("own decode", [1], [2])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{folder}/none.py:build", "there is no file .*none.py"),
        ("no_such_package_at_all:build", "no module 'no_such_package_at_all' on Python's path"),
        ("{file}:bild", "has no function 'bild'; it defines Port, build, other, prefill"),
        (":build", "give FILE.py:NAME"),
        ("{folder}/broken.py:build", "broken.py cannot be imported: ZeroDivisionError"),
        (
            "{folder}/needs.py:build",
            "needs.py cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'",
        ),
        ("{folder}/odd.py:build", "prefill beside build is a int; make it a function"),
    ],
)
def test_what_is_wrong_is_said(file, spec, message):
    (file.parent / "broken.py").write_text("1 / 0\n")
    (file.parent / "needs.py").write_text("import not_there_at_all\n")
    (file.parent / "odd.py").write_text("prefill = 3\ndef build(reference, device): ...\n")
    with pytest.raises(PortError, match=message):
        load_port_builder(spec.format(file=file, folder=file.parent))
    sys.modules.pop("odd", None)
    assert not {"broken", "needs"} & sys.modules.keys()
