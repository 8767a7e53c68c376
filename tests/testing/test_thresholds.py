# SPDX-License-Identifier: Apache-2.0
"""A file of thresholds either limits what it seems to, or is refused with the line at fault."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.errors import ThresholdError
from tttdebug.testing.default_thresholds import default_thresholds, default_thresholds_toml
from tttdebug.testing.limits import METRICS
from tttdebug.testing.thresholds import Allowance, names, read_thresholds, thresholds_from_toml
from tttdebug.tracking.gates import default_gate

ONE = '[[threshold]]\nboundaries = "*"\n'


def read(text: str):
    return thresholds_from_toml(text, "limits.toml")


def test_everything_that_a_threshold_can_say():
    thresholds = read(
        """
        # limits of our port
        [[threshold]]
        boundaries = ["L*.mlp", "L0?.self_attn"]
        phase = "decode"
        step = "2-7"
        precision = "perf*"
        when = "bfloat4_b"
        tokens_below = 32
        mode = "isolated"
        floor_excuses = true
        optional = true
        pcc = 0.98
        ulp_p99 = 40
        [allow]
        skipped = ["L00.k_cache: the port did not use *"]
        """
    )
    (threshold,) = thresholds.thresholds
    assert threshold.limits == {"pcc": 0.98, "ulp_p99": 40.0}
    assert (threshold.phase, threshold.steps, threshold.precision, threshold.when) == (
        "decode",
        (2, 7),
        "perf*",
        "bfloat4_b",
    )
    assert (threshold.tokens_below, threshold.mode, threshold.floor_excuses, threshold.optional) == (
        32,
        "isolated",
        True,
        True,
    )
    assert threshold.place == "limits.toml, line 3"
    assert [threshold.names(name) for name in ("L17.mlp", "L17.mlp#2", "L07.self_attn", "L17.self_attn")] == [
        True,
        True,
        True,
        False,
    ]
    assert thresholds.allowed_skips == (Allowance("L00.k_cache", "the port did not use *"),)
    assert len(thresholds.digest) == 64


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"holds no \[\[threshold\]\]"),
        ("threshold = 3", r"holds no \[\[threshold\]\]"),
        ("[[threshold]\n", "is not TOML"),
        ("[[thresholds]]\npcc = 1.0", r"thresholds holds nothing to be held to; write \[\[threshold\]\]"),
        (f"{ONE}pcc = 0.9\n[[threshold]]\npcc = 0.9", "line 4 says no boundaries"),
        (ONE, "line 1 limits nothing"),
        (f"{ONE}floor_excuses = true", "line 1 limits nothing"),
        ("[[threshold]]\nboundaries = []\npcc = 0.9", "line 1 limits nothing"),
        ("[[threshold]]\nboundaries = 3\npcc = 0.9", "boundaries = 3"),
        ('[[threshold]]\nboundaries = [""]\npcc = 0.9', "give a list of texts"),
        (f"{ONE}pc = 0.9", "line 1: pc is unknown; nearest: pcc"),
        (f"{ONE}rel_l2_floor = 2", "nearest: rel_l2_of_floor"),
        (f"{ONE}pcc = 1.01", "pcc = 1.01 limits nothing; give a finite number, above 0, at most 1"),
        (f"{ONE}pcc = 0", "pcc = 0 limits nothing"),
        (f"{ONE}pcc = nan", "pcc = nan limits nothing"),
        (f"{ONE}pcc = true", "pcc = True limits nothing"),
        (f'{ONE}pcc = "0.9"', "pcc = '0.9' limits nothing"),
        (f"{ONE}rel_l2 = 1.0", "rel_l2 = 1.0 limits nothing; give a finite number, 0 or more, below 1"),
        (f"{ONE}slope = 1.0", "slope = 1.0 limits nothing"),
        (f"{ONE}max_abs_diff = inf", "max_abs_diff = inf limits nothing"),
        (f"{ONE}ulp_p99 = -1", "ulp_p99 = -1 limits nothing"),
        (f'{ONE}pcc = 0.9\nphase = "prefil"', "'prefil' is none of prefill, decode"),
        (f'{ONE}pcc = 0.9\nwhen = "bfp4"', "'bfp4' is none of"),
        (f'{ONE}pcc = 0.9\nmode = ""', "mode = '' is none of"),
        (f'{ONE}pcc = 0.9\nstep = "7-2"', "step = '7-2'"),
        (f"{ONE}pcc = 0.9\nstep = -1", "step = -1"),
        (f"{ONE}pcc = 0.9\ntokens_below = 0", "tokens_below = 0"),
        (f"{ONE}pcc = 0.9\noptional = 1", "optional = 1; give true or false"),
        (f"{ONE}pcc = 0.9\nprecision = 3", "precision = 3 is no text"),
        (f'{ONE}pcc = 0.9\n[allow]\nskiped = ["a: b"]', r"\[allow\]: skiped is unknown; nearest: skipped"),
        (f'{ONE}pcc = 0.9\n[allow]\nskipped = ["L00.k_cache"]', "gives no reason"),
        (f'{ONE}pcc = 0.9\n[allow]\nskipped = ["L00.k_cache: *"]', "gives no reason"),
        (f'{ONE}pcc = 0.9\n[allow]\nskipped = "a: b"', "skipped = 'a: b'"),
        ("allow = 3\n" + f"{ONE}pcc = 0.9", "allow = 3"),
    ],
)
def test_what_would_gate_less_than_it_seems_is_refused(text, says):
    with pytest.raises(ThresholdError, match=says) as raised:
        read(text)
    assert str(raised.value).startswith("limits.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ThresholdError, match=r"none\.toml cannot be read.*--print-defaults"):
        read_thresholds(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ThresholdError, match="UTF-8"):
        read_thresholds(tmp_path / "latin.toml")


def test_thresholds_in_an_array_are_counted():
    text = 'threshold = [{boundaries = "*", pcc = 0.9}, {boundaries = "embed", pc = 0.9}]'
    with pytest.raises(ThresholdError, match=r"limits\.toml, threshold 2: pc is unknown"):
        read(text)


def test_patterns_are_of_the_module_whichever_call_it_is():
    assert names("L*.mlp", "L07.mlp#2")
    assert names("L*.mlp#2", "L07.mlp#2")
    assert not names("L*.mlp#2", "L07.mlp")
    assert not names("l*.mlp", "L07.mlp")


@given(st.sampled_from(sorted(METRICS)), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_tighter_limit_never_lets_more_pass(metric, value, limit):
    side = METRICS[metric].side
    held, values = [limit, limit / 2, 2 * limit], np.full(3, value)
    holds = dict(zip(held, side.holds(values, np.array(held)).tolist(), strict=True))
    ordered = [holds[each] for each in sorted(holds)]
    assert ordered in (sorted(ordered), sorted(ordered, reverse=True))
    assert not side.holds(np.array([math.nan]), np.array([limit]))[0]


@pytest.mark.parametrize("tokens", [1, 31, 32, 500])
@pytest.mark.parametrize("weight", ["bfloat8_b", "bfloat4_b"])
@pytest.mark.parametrize(
    "boundary", ["embed", "L03.input_norm", "L12.mlp", "L12.self_attn#2", "L03.layer_out", "logits"]
)
def test_the_defaults_are_the_packages_gates(boundary, weight, tokens):
    limits: dict[str, float] = {}
    branch = boundary.endswith(("mlp", "self_attn#2"))
    for threshold in default_thresholds().thresholds:
        few = threshold.tokens_below is None or tokens < threshold.tokens_below
        kept = not threshold.when or (threshold.when == weight and branch)
        if threshold.names(boundary) and few and kept:
            assert threshold.floor_excuses
            limits |= threshold.limits
    gate = default_gate(boundary, weight_dtypes=[weight] if branch else [], tokens=tokens)
    assert limits == {"pcc": gate.pcc, "slope": gate.slope_tolerance}


def test_the_defaults_read_back_from_a_file(tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text(default_thresholds_toml())
    assert read_thresholds(path).digest == default_thresholds().digest


def test_a_threshold_a_line_says_the_same_as_a_table_each():
    lines = thresholds_from_toml(
        """[thresholds]
"*" = {pcc = 0.9, floor_excuses = true}
# of weights in few bits
"L*.mlp" = {pcc = 0.98, slope = 0.1, when = "bfloat4_b", phase = "prefill", step = "0-3"}

[allow]
skipped = ["L00.k_cache: the port did not use *"]
""",
        "limits.toml",
    )
    tables = thresholds_from_toml(
        """[[threshold]]
boundaries = "*"
pcc = 0.9
floor_excuses = true
[[threshold]]
boundaries = "L*.mlp"
pcc = 0.98
slope = 0.1
when = "bfloat4_b"
phase = "prefill"
step = "0-3"
""",
        "limits.toml",
    )
    assert [replace(each, place="") for each in lines.thresholds] == [
        replace(each, place="") for each in tables.thresholds
    ]
    assert [each.place for each in lines.thresholds] == ["limits.toml, line 2", "limits.toml, line 4"]
    assert len(lines.allowed_skips) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[thresholds]\n", "holds nothing to be held to"),
        ('[thresholds]\n"*" = 0.9\n', "line 2: * = 0.9; write a metric"),
        ('[thresholds]\n"*" = {pc = 0.9}\n', "line 2: pc is unknown; nearest: pcc"),
        ('[thresholds]\n"*" = {}\n', "line 2 limits nothing"),
        ('[thresholds]\n"*" = {pcc = 0.9, boundaries = "embed"}\n', "boundaries is unknown"),
        ('[thresholds]\n"*" = {pcc = 0.9}\n[[threshold]]\nboundaries = "*"\npcc = 0.9\n', "write all of them one way"),
    ],
)
def test_a_line_that_gates_less_than_it_seems_is_refused(text, says):
    with pytest.raises(ThresholdError) as error:
        thresholds_from_toml(text, "limits.toml")
    assert says in str(error.value)
