# SPDX-License-Identifier: Apache-2.0
"""Pairing: paths through attributes, lists and dictionaries; a wrong one names the nearest right one."""

from types import SimpleNamespace

import pytest
from torch import nn

from tttdebug.errors import PairingError
from tttdebug.tracking.pairing import Pair, module_at, pair_modules, pairs_from_mapping

PORT = SimpleNamespace(layers=[SimpleNamespace(attention="a0"), SimpleNamespace(attention="a1")], heads={"lm": "h"})
REFERENCE = nn.ModuleDict({"model": nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])})})


def test_a_template_pairs_every_layer():
    template = Pair("L{i}.self_attn", "layers.{i}.attention", "model.layers.{i}")
    paired = pair_modules(PORT, REFERENCE, template.for_layers(2))
    assert [(p.pair.boundary, p.port) for p in paired] == [("L00.self_attn", "a0"), ("L01.self_attn", "a1")]
    assert paired[1].reference is REFERENCE["model"]["layers"][1]


def test_paths_go_through_dictionaries():
    assert module_at(PORT, "heads.lm") == "h"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Pair("x", "layers.0.atention", "model.layers.0"), "nearest: attention"),
        (Pair("x", "layers.2.attention", "model.layers.0"), "has no '2'"),
        (Pair("x", "layers.0.attention", "model.layer.0"), r"nearest: model\.layers"),
    ],
)
def test_a_path_that_leads_nowhere_names_the_nearest(pair, message):
    with pytest.raises(PairingError, match=message):
        pair_modules(PORT, REFERENCE, [pair])


def test_no_pairs_is_an_error_and_not_a_green_run():
    with pytest.raises(PairingError, match="nothing to compare"):
        pair_modules(PORT, REFERENCE, pairs_from_mapping({}))
