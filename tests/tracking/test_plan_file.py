# SPDX-License-Identifier: Apache-2.0
"""A plan comes back from its TOML as it was, whatever is in its names; a file that says nonsense names the place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.errors import PairingError
from tttdebug.tracking.pairing import Pair, PairLayout
from tttdebug.tracking.pairing_plan import PairingPlan, PlannedPair, Unpaired, in_order
from tttdebug.tracking.plan_file import layers_as_text, pair_groups, plan_from_toml, plan_to_toml, read_plan, write_plan

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PATHS = st.lists(
    st.sampled_from(["layers", "7", "12", "attention", 'a "b"', "c\\d", "ü", "\n", "\x00"]), max_size=4
).map(".".join)
COLUMNS = st.tuples(st.integers(0, 9), st.integers(10, 99))
LAYOUTS = st.builds(
    PairLayout,
    port_element=st.none() | st.integers(0, 3) | st.just("logits"),
    reference_element=st.none() | st.integers(0, 3),
    port_columns=st.none() | COLUMNS,
    reference_columns=st.none() | COLUMNS,
    head_order=st.sampled_from(["same", "interleaved", "auto"]),
    head_dim=st.integers(1, 128),
    rotary_dim=st.none() | st.integers(1, 64),
)
BOUNDARIES = st.sampled_from(["embed", "L07.mlp", "L12.self_attn", "L112.x.y", "L7.x", "tower.L03.mlp"]) | TEXTS
PAIRS = st.builds(Pair, BOUNDARIES, PATHS, PATHS, st.just(PairLayout()) | LAYOUTS)
PLANNED = st.builds(
    PlannedPair, PAIRS, st.sampled_from(["mapping", "path", "synonym", "class and order", "shapes"]), TEXTS
)
LEFT = st.lists(st.builds(Unpaired, PATHS, TEXTS, TEXTS | st.just("nearest: layers.7.mlp, layers.12.mlp")), max_size=4)


@given(st.lists(PLANNED, max_size=6), LEFT, LEFT, st.lists(TEXTS, max_size=2), st.booleans())
def test_what_is_written_is_what_is_read(planned, port, reference, notes, complete):
    plan = PairingPlan(in_order(planned), tuple(port), tuple(reference), tuple(notes), complete)
    again = plan_from_toml(plan_to_toml(plan), "plan.toml")
    assert sorted(map(repr, again.planned)) == sorted(map(repr, set(plan.planned)))
    for side in ("unpaired_port", "unpaired_reference"):
        assert set(getattr(again, side)) == set(getattr(plan, side))
    assert (again.notes, again.complete) == (plan.notes, complete)


def a_plan(layers):
    def of(i):
        return Pair("L{i}.mlp", "layers.{i}.feed_forward", "model.layers.{i}.mlp").of_layer(i)

    return PairingPlan(tuple(PlannedPair(of(i), "synonym", f"layers.{i}.x is [q|k|v]") for i in layers))


def test_layers_that_pair_alike_are_one_entry(tmp_path):
    plan = a_plan([0, 1, 2, 5])
    (group,) = pair_groups(plan.planned)
    assert group.layers == (0, 1, 2, 5)
    text = plan_to_toml(plan)
    assert 'layers = "0-2, 5"' in text
    assert 'because = "layers.{i}.x is [q|k|v]"' in text
    write_plan(plan, tmp_path / "pairs.toml")
    assert read_plan(tmp_path / "pairs.toml") == plan


@given(st.sets(st.integers(0, 200), min_size=1))
def test_layers_as_text_come_back(layers):
    text = f'[[pair]]\nboundary="L{{i}}.x"\nport="a.{{i}}"\nreference="b.{{i}}"\nlayers="{layers_as_text(layers)}"'
    assert {pair.port for pair in plan_from_toml(text, "x").pairs} == {f"a.{i}" for i in layers}


def test_a_file_by_hand_needs_three_words_a_pair_and_is_not_complete():
    plan = plan_from_toml('[[pair]]\nboundary = "x"\nport = "a"\nreference = ""\n', "mine")
    assert plan == PairingPlan((PlannedPair(Pair("x", "a", ""), "mapping"),), complete=False)


PAIR = '[[pair]]\nboundary = "x"\nport = "a"\nreference = "b"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair = [", "f.toml is not TOML"),
        ("[[pear]]\n", "pear is none of pair, unpaired_port"),
        ('[[pair]]\nboundary = "x"\nport = "a"\n', r"f.toml, pair 1 \(x\): reference is missing"),
        (PAIR + "colour = 1", "colour is none of boundary, port"),
        (PAIR + 'layers = "1-x"', "give numbers and ranges"),
        (PAIR + 'layers = "5-2"', "names no layer"),
        (PAIR + 'found_by = "luck"', "'luck' is none of mapping, path"),
        (PAIR + 'head_order = "auto"', "needs head_dim"),
        (PAIR + "port_columns = [4]", "port_columns"),
        (PAIR + 'port_columns = ["a", "b"]', "port_columns"),
        (PAIR + 'head_dim = "x"\nhead_order = "auto"', "head_dim"),
        ("complete = 1", "give true or false"),
        ("notes = [1]", "not a list of texts"),
        ("pair = 3", r"write \[\[pair\]\] before each"),
        ('[[unpaired_port]]\npath = "a"\n', "unpaired_port 1: class_name is missing"),
    ],
)
def test_nonsense_is_refused_with_its_place(text, message):
    with pytest.raises(PairingError, match=message):
        plan_from_toml(text, "f.toml")


def test_files_that_cannot_be_read_or_written_are_said(tmp_path):
    with pytest.raises(PairingError, match="cannot be read: No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"notes = ['\xff']")
    with pytest.raises(PairingError, match=r"latin.toml.*UTF-8"):
        read_plan(tmp_path / "latin.toml")
    with pytest.raises(PairingError, match="cannot be written"):
        write_plan(a_plan([0]), tmp_path / "no" / "such" / "folder.toml")


@pytest.mark.parametrize(
    ("boundaries", "ordered"),
    [
        (
            [
                "logits",
                "L01.mlp",
                "L00.layer_out",
                "final_norm",
                "embed",
                "L00.mlp.gate_proj",
                "L00.mlp",
                "L00.input_norm",
            ],
            [
                "embed",
                "L00.input_norm",
                "L00.mlp.gate_proj",
                "L00.mlp",
                "L00.layer_out",
                "L01.mlp",
                "final_norm",
                "logits",
            ],
        ),
        (["L10.mlp", "L9.mlp", "L02.mlp", "L100.mlp"], ["L02.mlp", "L10.mlp", "L100.mlp", "L9.mlp"]),
    ],
)
def test_pairs_are_in_the_order_of_execution(boundaries, ordered):
    planned = [PlannedPair(Pair(boundary, "a", "b"), "path") for boundary in boundaries]
    assert [each.pair.boundary for each in in_order(planned)] == ordered
