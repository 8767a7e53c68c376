# SPDX-License-Identifier: Apache-2.0
"""Every emulated op has the real one's arguments: their names, their order, which are keywords only, their defaults."""

import inspect
import json
from enum import Enum
from pathlib import Path

import pytest

from tttdebug.emulator import ttnn
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG
from tttdebug.emulator.real_names import real_names

REAL = json.loads((Path(__file__).parent / "data" / "signatures.json").read_text())["ops"]

# Where the emulator's own arguments differ from the real ones, and why.
MORE = {
    "matmul": {"bias"},  # to say that ttnn.linear takes one
    "open_device": {"num_command_queues"},  # the real one takes it without saying so
}
LESS = {"create_mesh_mapper": {"mesh_shape"}}  # a mapper for a mesh that is not there
TWO_IN_ONE = {"assign", "reshape", "typecast"}  # one function for overloads of different lengths
UNSAID = {"create_mesh_device", "get_memory_config"}  # the real ones do not name their arguments
OWN_DEFAULTS = {
    "open_device": {"l1_small_size", "trace_region_size", "dispatch_core_config", "worker_l1_size"},  # real: unsaid
    "empty": {"device"},  # the real one has none, behind arguments that have
    "transformer.flash_multi_latent_attention_decode": {"head_dim_v"},  # likewise
}
BY_HAND = {  # handed on to one of two or three, by position
    "interleaved_to_sharded",
    "experimental.all_gather_async",
    "experimental.all_gather_matmul_async",
    "experimental.all_reduce_async",
    "experimental.reduce_scatter_minimal_async",
}


def named(path):
    owner = ttnn
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def is_emulated(path):
    value = named(path)
    return "not emulated" not in repr(value)


def parsed(overload):
    """(name, keyword only, default) of each argument, the default as written."""
    keywords, arguments = False, []
    depth, parts = 0, [""]
    for character in overload:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    for part in (part.strip() for part in parts):
        if part == "*":
            keywords = True
        elif part:
            name, _, default = part.partition("=")
            arguments.append((name, keywords, default or None))
    return arguments


def written(default):
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    if default == DRAM_MEMORY_CONFIG:
        return "DRAM_MEMORY_CONFIG"
    return "[]" if default in ((), []) else repr(default)


def same(own, real):
    if own == real:
        return True
    try:
        return float(own) == pytest.approx(float(real), rel=1e-6)
    except (TypeError, ValueError):
        return False


def own_arguments(path):
    function = named(path)
    return inspect.signature(function).parameters, set(getattr(function, "further_arguments", ()))


EMULATED = [
    path for path in REAL if path in real_names() and is_emulated(path) and path not in BY_HAND and path not in UNSAID
]


def test_more_than_120_operations_are_emulated():
    operations = [path for path in EMULATED if real_names()[path] == "operation"]
    assert len(operations) >= 120, len(operations)


@pytest.mark.parametrize("path", EMULATED)
def test_an_op_knows_every_argument_of_the_real_one_and_no_other(path):
    own, further = own_arguments(path)
    real = {name for overload in REAL[path] for name, _, _ in parsed(overload)}
    assert (set(own) | further) - MORE.get(path, set()) == real - LESS.get(path, set())


@pytest.mark.parametrize("path", EMULATED)
def test_positional_arguments_come_in_the_real_order(path):
    own, further = own_arguments(path)
    positional = [p.name for p in own.values() if p.kind is not p.KEYWORD_ONLY]
    overloads = [[name for name, keyword, _ in parsed(overload) if not keyword] for overload in REAL[path]]
    assert any(
        (real[: len(positional)] == positional and set(real[len(positional) :]) <= further)
        or (path in TWO_IN_ONE and positional[: len(real)] == real)
        for real in overloads
    ), (positional, overloads)


@pytest.mark.parametrize("path", EMULATED)
def test_defaults_are_the_real_ones(path):
    own, _ = own_arguments(path)
    wrong = []
    for p in own.values():
        if p.name in MORE.get(path, set()) | OWN_DEFAULTS.get(path, set()):
            continue
        defaults = {default for overload in REAL[path] for name, _, default in parsed(overload) if name == p.name}
        optional = len(REAL[path]) > 1 and p.default is None  # an argument of one overload among several
        if "…" not in defaults and not optional and not any(same(written(p.default), real) for real in defaults):
            wrong.append((p.name, written(p.default), defaults))
    assert not wrong
