# SPDX-License-Identifier: Apache-2.0
"""Discovery finds what can be run, wherever it is kept, calls nothing of it, and reports what it cannot read."""

from collections import OrderedDict
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tttdebug.emulator import ttnn
from tttdebug.tracking.discovery import discover
from tttdebug.tracking.pairing import module_at


class Part:
    """A module by its forward."""

    def forward(self, x):
        return x


class Bound:
    """A module whose forwards are attributes of the object."""

    def __init__(self):
        self.decode_forward = self._decode

    def _decode(self, x):
        return x


class Called:
    def __call__(self, x):
        return x


class Slotted:
    __slots__ = ("inner", "never_set")

    def __init__(self, inner):
        self.inner = inner

    def prefill_forward(self, x):
        return x


class Config:
    """No module, but it holds one."""

    def __init__(self, **held):
        vars(self).update(held)


def paths(port, **options):
    return [module.path for module in discover(port, **options).modules]


def test_modules_are_found_in_attributes_lists_tuples_dicts_slots_and_plain_objects():
    port = Config(
        stack=[Part(), Slotted(Part())],
        pair=(Bound(), "text"),
        named=OrderedDict(a=Called(), b=3),
        by_number={7: Part()},
        held=Config(deep=SimpleNamespace(deeper=Part())),
    )
    assert paths(port) == [
        *("stack.0", "stack.1", "stack.1.inner", "pair.0", "named.a", "by_number.7"),
        "held.deep.deeper",
    ]
    for module in discover(port).modules:
        assert module_at(port, module.path) is module.module


def test_entry_points_are_those_of_the_class_and_of_the_object():
    entries = {module.path: module.entry_points for module in discover(Config(a=Part(), b=Bound(), c=Called())).modules}
    assert entries == {"a": ("forward",), "b": ("decode_forward",), "c": ("__call__",)}


def test_an_object_made_without_init_is_found_by_its_attributes():
    class Made:
        def __init__(self):
            raise RuntimeError("made by from_config only")

        def prefill_forward(self, x):
            return x

    made = object.__new__(Made)
    made.inner = Part()
    assert paths(Config(block=made)) == ["block", "block.inner"]


def test_cycles_and_shared_modules_are_met_once_with_every_way_to_them():
    shared, layer = Part(), Part()
    layer.norm, layer.parent = shared, None
    port = Config(layers=[layer, Part()], final=shared)
    layer.parent = port
    layer.itself = layer
    found = {module.path: module for module in discover(port).modules}
    assert set(found) == {"layers.0", "layers.1", "final"}
    assert found["final"].also_at == ("layers.0.norm",)
    assert found["final"].paths == ("final", "layers.0.norm")


def test_no_property_is_evaluated_and_nothing_is_called():
    touched = []

    class Watchful:
        def __init__(self):
            self.real = Part()

        @property
        def costly(self):
            touched.append("property")
            raise RuntimeError("loads the weights")

        @property
        def forward(self):
            touched.append("forward")
            raise RuntimeError("not bound yet")

        def __getattr__(self, name):
            touched.append(name)
            raise AttributeError(name)

        def decode_forward(self, x):
            touched.append("decode_forward")

    found = discover(Config(a=Watchful()))
    assert [module.path for module in found.modules] == ["a", "a.real"]
    assert found.modules[0].entry_points == ("decode_forward",)
    assert touched == []
    assert found.unread == ()


def test_what_raises_or_cannot_be_named_is_reported_and_the_rest_is_found():
    class Odd(dict):
        def items(self):
            raise RuntimeError("not now")

    class Kind(Enum):
        ONE = 1

    found = discover(Config(odd=Odd(a=1), by_enum={Kind.ONE: Part()}, after=Part()))
    assert [module.path for module in found.modules] == ["after"]
    said = {unread.path: unread.reason for unread in found.unread}
    assert said["odd"] == "raised RuntimeError: not now"
    assert "cannot be part of a path" in said["by_enum"]


def test_tensors_devices_arrays_classes_functions_and_packages_are_not_walked_into():
    device = ttnn.open_device(device_id=0)
    x = torch.zeros(2, 2)
    x.hidden = Part()
    port = Config(
        tensor=x,
        device=device,
        op=ttnn.linear,
        array=np.zeros(3),
        kind=Part,
        function=paths,
        package=np,
        text="forward",
    )
    assert discover(port) == discover(Config())


def test_a_mapping_that_reads_from_disk_is_not_read():
    from collections.abc import Mapping

    class OnDisk(Mapping):
        def __getitem__(self, name):
            raise AssertionError("read a weight")

        def __iter__(self):
            raise AssertionError("listed the weights")

        def __len__(self):
            return 1

    assert paths(Config(weights=OnDisk(), layer=Part())) == ["layer"]


def test_a_port_may_be_a_torch_module_and_its_reference_is_left_alone():
    class Hybrid(nn.Module):
        def __init__(self, reference):
            super().__init__()
            self.reference = reference
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.on_device = [Part()]

        def forward(self, x):
            return x

    reference = nn.Sequential(nn.Linear(2, 2))
    port = Hybrid(reference)
    found = paths(port, leave_out=reference.modules())
    assert found == ["", "layers.0", "layers.1", "on_device.0"]
    assert module_at(port, "layers.1") is port.layers[1]


def test_upstreams_own_names_are_kept_and_one_that_leads_nowhere_is_reported():
    class Model(Part):
        def __init__(self):
            self.layers = [Part()]
            self.layers[0].attention_norm = Part()

        def iter_executor_named_modules(self):
            yield "layer[0].attn_norm", self.layers[0].attention_norm
            yield "lm_head", Part()

    found = discover(Model())
    assert {module.path: module.name for module in found.modules}["layers.0.attention_norm"] == "layer[0].attn_norm"
    (unread,) = found.unread
    assert "'lm_head', to which no attribute leads" in unread.reason


def test_naming_that_raises_is_reported():
    class Model(Part):
        def iter_executor_named_modules(self):
            raise RuntimeError("not built")

    (unread,) = discover(Model()).unread
    assert unread.reason == "iter_executor_named_modules raised RuntimeError: not built"


@st.composite
def trees(draw, depth=3):
    """A port of random containers, and how many modules it has."""
    module = Part() if draw(st.booleans()) else Config()
    count = isinstance(module, Part)
    for i in range(draw(st.integers(0, 3)) if depth else 0):
        child, inside = draw(trees(depth=depth - 1))
        held = draw(
            st.sampled_from([lambda c: c, lambda c: [c], lambda c: (1, c), lambda c: {"x": c}, lambda c: [[c]]])
        )
        setattr(module, f"part{i}", held(child))
        count += inside
    return module, count


@given(trees())
def test_every_module_is_found_and_every_path_leads_to_it(drawn):
    port, count = drawn
    found = discover(port).modules
    assert len(found) == count
    for module in found:
        assert module.path == "" or module_at(port, module.path) is module.module


@pytest.mark.parametrize("file_name", ["test", "code"])
def test_a_port_in_a_file_called_like_a_standard_module_is_found(tmp_path, monkeypatch, file_name):
    import sys

    path = tmp_path / f"{file_name}.py"
    path.write_text("class Layer:\n    def forward(self, x):\n        return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, file_name, raising=False)
    module = __import__(file_name)
    assert paths(Config(layer=module.Layer())) == ["layer"]
    monkeypatch.delitem(sys.modules, file_name)
