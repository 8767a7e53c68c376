# SPDX-License-Identifier: Apache-2.0
"""The drawing of a layer: every boundary once, what lies inside below its part, and no wire that nobody told of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sample_runs import WIRING, Pair, about

from flow import SUM, Flow, flow_of, inside_of
from tttdebug.tracking.record import Record, without_metrics

PATHS = {
    "input_norm": "layers.3.attention_norm",
    "k_cache": "layers.3.attention.cache.keys",
    "self_attn": "layers.3.attention",
    "post_attn_norm": "layers.3.ff_norm",
    "mlp": "layers.3.feed_forward",
    "layer_out": "layers.3",
}
SANDWICH = "h = x + post_attn_norm(self_attn(input_norm(x))); h + post_mlp_norm(mlp(pre_mlp_norm(h)))"
PARALLEL = "x + self_attn(input_norm(x)) + mlp(post_attn_norm(x))"
SHARED = "n = input_norm(x); x + self_attn(n) + mlp(n)"
POST = "h = post_attn_norm(x + self_attn(x)); ff_norm(h + mlp(h))"


def record(boundary: str, module: str) -> Record:
    facts = about(Pair(boundary, torch.zeros(4, 8), torch.zeros(4, 8)), "prefill", 0, 0) | {"module": module}
    return Record(**facts, **without_metrics((4, 8)), verdict="ok", adapters=())


def layer(*kinds: str) -> list[Record]:
    return [record(f"L03.{kind}", PATHS.get(kind, f"layers.3.{kind}")) for kind in kinds]


def drawn(flow: Flow) -> list[str]:
    return [node.boundary.rpartition(".")[2] for node in flow.nodes if node.boundary]


def no_two_overlap(flow: Flow) -> bool:
    nodes = [node for node in flow.nodes if node.boundary]
    return not any(
        abs(a.x - b.x) < (a.width + b.width) / 2 - 1e-9 and abs(a.y - b.y) < (a.height + b.height) / 2 - 1e-9
        for place, a in enumerate(nodes)
        for b in nodes[:place]
    )


@pytest.mark.parametrize(
    ("formula", "kinds", "sums"),
    [
        (WIRING, tuple(PATHS), 2),
        (
            SANDWICH,
            ("input_norm", "self_attn", "post_attn_norm", "pre_mlp_norm", "mlp", "post_mlp_norm", "layer_out"),
            2,
        ),
        (PARALLEL, tuple(PATHS), 1),
        (SHARED, ("input_norm", "k_cache", "self_attn", "mlp", "layer_out"), 1),
        (POST, ("self_attn", "post_attn_norm", "mlp", "layer_out"), 2),
    ],
)
def test_every_boundary_is_drawn_once_and_every_sum(formula: str, kinds: tuple[str, ...], sums: int) -> None:
    flow = flow_of(layer(*kinds), formula)
    assert flow.known
    assert sorted(drawn(flow)) == sorted(kinds)
    assert sum(node.label == SUM for node in flow.nodes) == sums
    assert no_two_overlap(flow)


@pytest.mark.parametrize("formula", ["", "no formula", "h = x + mlp(x); h", "x + mlp(x)"])
def test_what_nobody_told_is_not_drawn(formula: str) -> None:
    flow = flow_of(layer(*PATHS), formula)
    assert not flow.known
    assert sorted(drawn(flow)) == sorted(PATHS)
    assert not any(node.label == SUM for node in flow.nodes)
    assert no_two_overlap(flow)


def test_a_cache_lies_inside_its_attention_and_nothing_inside_the_layer_itself() -> None:
    assert inside_of(layer(*PATHS)) == {"L03.k_cache": "L03.self_attn"}


def test_modules_without_paths_lie_inside_of_none() -> None:
    records = [replace(each, module="") for each in layer(*PATHS)]
    assert inside_of(records) == {}
    assert sorted(drawn(flow_of(records, ""))) == sorted(PATHS)


def test_a_boundary_outside_the_layers_is_one_box() -> None:
    flow = flow_of([record("embed", "embedding")], WIRING)
    assert drawn(flow) == ["embed"]
    assert not flow.lines


def test_a_value_names_the_part_that_reads_it() -> None:
    flow = flow_of(layer("self_attn", "post_attn_norm", "mlp", "layer_out"), POST)
    read = [(node.label, node.read_by.rpartition(".")[2]) for node in flow.nodes if not node.boundary]
    assert read == [
        *(("input", "self_attn"), (SUM, "post_attn_norm"), ("h", "")),
        *(("h", "mlp"), (SUM, ""), ("ff_norm", "")),
    ]
