# SPDX-License-Identifier: Apache-2.0
"""Whatever an object is made of, its calls are heard, other objects of its class are not, and nothing stays behind."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import pytest

from tttdebug.errors import PairingError
from tttdebug.tracking.hooks import PortTap, unrecorded


class WithoutInit:
    """As TTTv2's `from_config` makes them."""

    @classmethod
    def from_config(cls, factor):
        made = object.__new__(cls)
        made.factor = factor
        return made

    def decode_forward(self, x):
        return x * self.factor


class BoundPartials:
    """As RMSNorm1D binds the forward that its config asks for."""

    def __init__(self):
        self.prefill_forward = partial(self._any, factor=7)

    def _any(self, x, factor):
        return x * factor


class Slotted:
    __slots__ = ("factor", "prefill_forward")

    def __init__(self, factor):
        self.factor = factor
        self.prefill_forward = lambda x: x + factor

    def forward(self, x):
        return self.prefill_forward(x) * 10


@dataclass(frozen=True)
class Frozen:
    factor: int

    def forward(self, x):
        return x * self.factor


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    factor: int

    def forward(self, x):
        return x * self.factor

    def __call__(self, x):
        return self.forward(x) + 1


class ByProperty:
    @property
    def forward(self):
        return lambda x: x * 4


class Delegating:
    """A class that lets no other be made of it, and refuses attributes."""

    def __init_subclass__(cls, **kwargs):
        raise TypeError("nothing may be made of this class")

    def __setattr__(self, name, value):
        raise TypeError("read-only")

    def __call__(self, x):
        return x - 1

    def forward(self, x):
        return x - 2


CASES = [
    (lambda: WithoutInit.from_config(3), lambda m: m.decode_forward(2), 6),
    (BoundPartials, lambda m: m.prefill_forward(2), 14),
    (lambda: Slotted(5), lambda m: m.forward(1), 60),
    (lambda: Slotted(5), lambda m: m.prefill_forward(1), 6),
    (lambda: Frozen(3), lambda m: m.forward(2), 6),
    (lambda: FrozenSlotted(3), lambda m: m.forward(2), 6),
    (lambda: FrozenSlotted(3), lambda m: m(2), 7),
    (ByProperty, lambda m: m.forward(2), 8),
    (Delegating, lambda m: m(5), 4),
    (Delegating, lambda m: m.forward(5), 3),
]


def state_of(module):
    """What wrapping could leave behind: the object's attributes and its class's, by identity."""
    own = type(module)
    slots = {name: getattr(module, name) for name in getattr(own, "__slots__", ())}
    return own, dict(getattr(module, "__dict__", {})), slots, {name: id(value) for name, value in vars(own).items()}


@pytest.mark.parametrize(("make", "act", "expected"), CASES)
@pytest.mark.parametrize("raises", [False, True])
def test_each_way_in_is_heard_once_and_restored_even_after_an_exception(make, act, expected, raises):
    module, other, heard = make(), make(), []
    before = state_of(module)
    try:
        with PortTap({"here": module}, lambda boundary, output, seconds: heard.append(output)):
            assert act(module) == expected
            assert act(other) == expected
            if raises:
                raise KeyError("of the user")
    except KeyError:
        assert raises
    assert heard == [expected]
    assert state_of(module) == before
    assert act(module) == expected
    assert heard == [expected]


def test_two_objects_of_a_class_are_told_apart_where_only_the_class_can_be_changed():
    first, second, heard = FrozenSlotted(2), FrozenSlotted(3), []
    with PortTap({"a": first, "b": second}, lambda boundary, output, seconds: heard.append((boundary, output))):
        second(10)
        first.forward(10)
    assert heard == [("b", 31), ("a", 20)]


def test_an_object_at_two_boundaries_is_wrapped_once():
    shared, heard = Frozen(2), []
    with PortTap({"a": shared, "b": shared}, lambda boundary, output, seconds: heard.append((boundary, output))):
        shared.forward(1)
        shared.forward(2)
    assert heard == [("a", 2), ("a", 4)]


def test_nothing_is_heard_in_an_unrecorded_block_and_everything_after_it():
    module, heard = Frozen(2), []
    with PortTap({"a": module}, lambda boundary, output, seconds: heard.append(output)):
        with unrecorded(), unrecorded():
            module.forward(1)
        with pytest.raises(ZeroDivisionError), unrecorded():
            1 / module.forward(0)
        module.forward(5)
    assert heard == [10]


@pytest.mark.parametrize("unfit", [len, partial(len), lambda x: x])
def test_what_python_cannot_change_is_an_error_that_says_what_to_pair(unfit):
    wrapped = Frozen(1)
    with (
        pytest.raises(PairingError, match=r"b: a .* cannot be listened to; pair the object that holds it"),
        PortTap({"a": wrapped, "b": unfit}, print),
    ):
        pass
    assert "forward" not in vars(wrapped)


def test_a_forward_that_cannot_be_read_is_an_error_with_its_reason():
    class Broken:
        @property
        def forward(self):
            raise RuntimeError("not loaded yet")

    with (
        pytest.raises(PairingError, match=r"Broken\.forward cannot be read .RuntimeError: not loaded yet"),
        PortTap({"a": Broken()}, print),
    ):
        pass


class Attention:
    """With TTTv2's arguments."""

    def forward(self, x, current_pos, rot_mats, user_id=0, mode="decode", page_table=None, chunk_start_idx=None):
        return x

    def prefill_forward(self, x, rot_mats, user_id=0, page_table=None, batch_size=1):
        return x


def arguments_of(act):
    told = []
    module, outer = Attention(), Frozen(1)
    tap = PortTap(
        {"attention": module, "outer": outer}, lambda *_: None, on_call=lambda name, arguments: told.append(arguments)
    )
    with tap:
        act(module)
    return told


def test_what_a_call_is_about_is_read_from_its_arguments():
    import torch

    from tttdebug.emulator import open_device, ttnn

    def on_device(values):
        return ttnn.from_torch(torch.tensor(values, dtype=torch.int32), dtype=ttnn.int32, device=open_device())

    tables = [torch.zeros(1, 1, 32, 64), torch.zeros(1, 1, 32, 64)]
    (decode,) = arguments_of(
        lambda m: m.forward(1, on_device([40, 41, -1]), tables, page_table=on_device([[3, 1], [0, 2]]))
    )
    assert (decode.entry, decode.phase, decode.user) == ("forward", "decode", 0)
    assert decode.positions == (40, 41, -1)
    assert decode.page_table == ((3, 1), (0, 2))
    assert decode.rotary == ((1, 1, 32, 64), (1, 1, 32, 64))
    (prefill,) = arguments_of(lambda m: m.prefill_forward(1, None, 5, batch_size=2))
    assert (prefill.entry, prefill.phase, prefill.user, prefill.batch_size) == ("prefill_forward", "prefill", 5, 2)
    assert (prefill.positions, prefill.page_table, prefill.rotary) == (None, None, None)

    class Mode:
        value = "prefill"

    (by_mode,) = arguments_of(lambda m: m.forward(1, None, None, mode=Mode, chunk_start_idx=64))
    assert (by_mode.phase, by_mode.chunk_start) == ("prefill", 64)


def test_a_freed_argument_is_not_read():
    import torch

    from tttdebug.emulator import open_device, ttnn

    position = ttnn.from_torch(torch.tensor([7], dtype=torch.int32), dtype=ttnn.int32, device=open_device())
    ttnn.deallocate(position)
    (told,) = arguments_of(lambda m: m.forward(1, position, None))
    assert told.positions is None


def test_listening_needs_no_torch():
    """An environment with ttnn alone has none."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from tttdebug.tracking.hooks import PortTap\n"
        "class Module:\n"
        "    def decode_forward(self, x, current_pos): return x\n"
        "told, module = [], Module()\n"
        "with PortTap({'m': module}, lambda *heard: None, lambda name, arguments: told.append(arguments)):\n"
        "    module.decode_forward(1, [7, 8])\n"
        "print(told[0].positions)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "(7, 8)\n", done.stderr
