# SPDX-License-Identifier: Apache-2.0
"""Listening changes nothing, hears every output once, and leaves no trace."""

import pytest
import torch
from torch import nn

from tttdebug.errors import PairingError
from tttdebug.tracking.hooks import PortTap, ReferenceTap


class Plain:
    """As TTTv2 writes modules: an entry that dispatches to others."""

    def forward(self, x, mode="prefill"):
        return self.prefill_forward(x) if mode == "prefill" else self.decode_forward(x)

    def prefill_forward(self, x):
        return x + 1

    def decode_forward(self, x):
        return x + 2


class BoundToTheInstance:
    """As RMSNorm1D does: its forwards are attributes of the object, not of the class."""

    def __init__(self):
        self.decode_forward = self._decode

    def _decode(self, x):
        return x * 3


class OnlyCalled:
    def __call__(self, x):
        return x * 5


def listen(module, act):
    heard = []
    with PortTap({"here": module}, lambda boundary, output, seconds: heard.append((boundary, output, seconds))):
        result = act(module)
    return result, heard


@pytest.mark.parametrize(
    ("module", "act", "expected"),
    [
        (Plain(), lambda m: m.forward(1), 2),
        (Plain(), lambda m: m.forward(1, mode="decode"), 3),
        (Plain(), lambda m: m.decode_forward(1), 3),
        (BoundToTheInstance(), lambda m: m.decode_forward(2), 6),
        (OnlyCalled(), lambda m: m(2), 10),
    ],
)
def test_each_call_is_heard_once_whatever_its_way_in(module, act, expected):
    before, own_class = dict(vars(module)), type(module)
    result, heard = listen(module, act)
    assert result == expected
    assert [(boundary, output) for boundary, output, _ in heard] == [("here", expected)]
    assert vars(module) == before
    assert type(module) is own_class


def test_everything_is_restored_when_the_port_raises():
    class Raising(Plain):
        def prefill_forward(self, x):
            raise RuntimeError("the port's own")

    module = Raising()
    heard = []
    with pytest.raises(RuntimeError, match="the port's own"), PortTap({"a": module}, lambda *call: heard.append(call)):
        module.forward(1)
    assert vars(module) == {}
    assert heard == []
    result, heard = listen(module, lambda m: m.decode_forward(1))
    assert (result, len(heard)) == (3, 1)


def test_nothing_stays_wrapped_when_one_module_cannot_be():
    wrapped, unfit = Plain(), object()
    with pytest.raises(PairingError, match="object has none of forward"), PortTap({"a": wrapped, "b": unfit}, print):
        pass
    assert vars(wrapped) == {}


def test_an_outer_module_is_not_charged_for_listening_to_an_inner_one():
    import time

    class Outer:
        def __init__(self, inner):
            self.inner = inner

        def forward(self, x):
            return self.inner.forward(x)

    inner = Plain()
    outer = Outer(inner)
    seconds = {}

    def slow_listener(boundary, output, spent):
        seconds[boundary] = spent
        time.sleep(0.05)

    with PortTap({"inner": inner, "outer": outer}, slow_listener):
        outer.forward(1)
    assert seconds["outer"] < 0.05


def test_reference_outputs_come_in_order_and_hooks_are_gone_after():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    with ReferenceTap({"first": model[0], "last": model[2]}) as tap:
        expected = model(x)
        outputs = tap.outputs()
    assert list(outputs) == ["first", "last"]
    assert torch.equal(outputs["last"], expected)
    assert not model[0]._forward_hooks


def test_an_output_changed_in_place_is_refused_rather_than_compared():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    with torch.no_grad(), ReferenceTap({"first": model[0]}) as tap:
        model(torch.randn(2, 4))
        with pytest.raises(PairingError, match="in place"):
            tap.outputs()


def test_a_reference_module_called_again_gives_each_call_by_number():
    shared, x = nn.Linear(4, 4), torch.randn(1, 4)
    with ReferenceTap({"shared": shared}) as tap:
        expected = [shared(x), shared(x + 1), shared(x + 2)]
    outputs = tap.outputs()
    assert list(outputs) == ["shared", "shared#2", "shared#3"]
    assert all(torch.equal(*pair) for pair in zip(outputs.values(), expected, strict=True))


def test_a_reference_module_at_two_boundaries_deals_its_calls_to_them_and_a_single_one_to_both():
    shared, x = nn.Linear(4, 4), torch.randn(1, 4)
    with ReferenceTap({"a": shared, "b": shared}) as tap:
        first, second = shared(x), shared(x + 1)
    assert torch.equal(tap.outputs()["a"], first)
    assert torch.equal(tap.outputs()["b"], second)
    with ReferenceTap({"a": shared, "b": shared}) as tap:
        only = shared(x)
    assert torch.equal(tap.outputs()["a"], only)
    assert torch.equal(tap.outputs()["b"], only)
