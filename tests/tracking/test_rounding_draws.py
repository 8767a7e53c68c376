# SPDX-License-Identifier: Apache-2.0
"""Other draws of the floor's roundings: as large as roundings are, asked for only where the verdict hangs on them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny_llamas import THREE_HEADS, tiny_llama

import tttdebug as td
from tttdebug.tracking.floor import FloorError
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.opening import manifest_of
from tttdebug.tracking.rounding_draws import DRAWS, other_roundings, with_scatter
from tttdebug.tracking.side_by_side import followed
from tttdebug.tracking.subject import subject_of
from tttdebug.tracking.truth import truth_of
from tttdebug.tracking.writer import RunWriter

PROMPT = list(range(3, 43))
SCALED = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **THREE_HEADS))


def relative(error: torch.Tensor, of: torch.Tensor) -> float:
    return float((error.norm() / of.norm()).detach())


def test_a_draw_disturbs_as_much_as_rounding_to_bfloat16_does():
    layer = torch.nn.Linear(64, 256, bias=False)
    x = torch.randn(512, 64)
    exact = layer(x)
    with other_roundings(layer, seed=1):
        disturbed = layer(x)
    rounded = exact.to(torch.bfloat16).float()
    assert relative(disturbed - exact, exact) == pytest.approx(relative(rounded - exact, exact), rel=0.05)
    assert torch.equal(layer(x), exact)


def test_a_seed_gives_the_same_draw_again_and_another_one_gives_another():
    layer = torch.nn.Linear(16, 16).bfloat16()
    x = torch.randn(4, 16).bfloat16()

    def drawn(seed):
        torch.rand(seed + 1)  # whatever else the process draws
        with other_roundings(layer, seed):
            return layer(x)

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert drawn(3).dtype == torch.bfloat16


def test_an_error_of_many_directions_is_hardly_widened_and_one_number_is():
    generator = torch.Generator().manual_seed(0)

    def widened(directions: int) -> torch.Tensor:
        errors = torch.randn(500, 1 + DRAWS, directions, generator=generator).norm(dim=-1) / math.sqrt(directions)
        return torch.tensor([with_scatter(own, drawn) for own, *drawn in errors.tolist()])

    assert widened(4096).max() < 1.15
    other = torch.randn(500, generator=generator).abs()  # of the same number: what a sound port might have there
    own = torch.randn(500, generator=generator).abs()
    assert (other > 1.75 * own).float().mean() > 0.25
    assert (other > 1.75 * widened(1)).float().mean() < 0.02


@pytest.mark.parametrize("drawn", [[], [0.1], [math.nan, 0.1, 0.2], [math.inf, 0.1]])
def test_without_several_finite_draws_the_floor_is_what_it_was(drawn):
    assert with_scatter(0.25, drawn) == 0.25


def test_a_draw_goes_on_from_the_cache_as_it_was_and_changes_nothing(reference):
    port = td.build_model(reference, td.open_device("emulated"), "accuracy")
    asked, plain = (truth_of(subject_of(port, reference, [PROMPT], 2)) for _ in range(2))
    for step in range(3):
        expected, other = ((truth.read(0) if step == 0 else truth.decode(5, 0)) for truth in (asked, plain))
        assert expected.floors == other.floors
        draws = expected.draws()
        assert len(draws) == DRAWS
        assert expected.draws() is draws
        for boundary, floor in expected.floors.items():
            errors = [draw[boundary].rel_l2 for draw in draws]
            assert len(set(errors)) == DRAWS or floor.rel_l2 == 0
            assert max(errors) < 4 * floor.rel_l2 + 0.01, boundary


class Redrawn:
    """A truth whose draws are `errors` at every boundary; counts how often they are asked for."""

    def __init__(self, truth, errors):
        self.truth, self.errors, self.asked = truth, errors, 0

    def read(self, user):
        return self._with_draws(self.truth.read(user))

    def decode(self, token, user):
        return self._with_draws(self.truth.decode(token, user))

    def _with_draws(self, expected):
        def draws():
            self.asked += 1
            return [dict.fromkeys(expected.floors, FloorError(error, error)) for error in self.errors]

        return replace(expected, draws=draws)


@pytest.mark.parametrize(
    ("factor", "errors", "asked", "verdict"),
    [
        (1.0, [0.0, 0.3, 0.0, 0.3], [0], "ok"),
        (1.15, [0.0, 0.3, 0.0, 0.3], [1, 2, 3, 4], "floor"),
        (1.15, [0.02, 0.02, 0.02, 0.02], [1], "diverged"),
        (6.0, [0.0, 0.3, 0.0, 0.3], [0], "diverged"),
    ],
)
def test_floors_are_drawn_again_where_the_verdict_hangs_on_them_and_never_after_a_fault(
    reference, tmp_path, factor, errors, asked, verdict
):
    weights = copy.copy(dict(reference.model.state_dict()))
    weights[SCALED] = weights[SCALED] * factor
    port = td.build_model(reference, td.open_device("emulated"), "accuracy", weights=weights)
    subject = subject_of(port, reference, [PROMPT], 1)
    truth = Redrawn(truth_of(subject), errors)
    writer = RunWriter(tmp_path / "run", head_of(subject))
    followed(subject, truth, writer)
    run = writer.finish()
    record = next(record for record in run.records if record.boundary == "L01.mlp")
    assert record.verdict == verdict, record.note
    assert ("in one draw of its roundings" in record.note) == (asked != [0])
    assert truth.asked in asked


def head_of(subject) -> Manifest:
    return manifest_of(
        subject.port,
        subject.reference,
        [subject.prompt_to_json(prompt) for prompt in subject.prompts],
        decode_steps=subject.decode_steps,
        expected=subject.comparisons,
        command="",
        seed=None,
    )
