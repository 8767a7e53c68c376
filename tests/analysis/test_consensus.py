# SPDX-License-Identifier: Apache-2.0
"""One cause for all calls of a module, and users that have changed places."""

import dataclasses

import torch

from tttdebug.analysis.consensus import consensus
from tttdebug.analysis.hypotheses import NOTHING
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.users import swapped_users
from tttdebug.specs import FeedForwardSpec
from tttdebug.tracking.record import Key

SPEC = FeedForwardSpec(hidden_dim=64, intermediate_dim=96)


def bfloat16(values):
    return values.to(torch.bfloat16).float()


def call(phase, step, user, port_of, tokens=40, spec=SPEC):
    """A call of a network of which the port makes `port_of(healthy output)`."""
    generator = torch.Generator().manual_seed(100 * step + user)
    weights = torch.Generator().manual_seed(1)
    sizes = {"w1": (96, 64), "w3": (96, 64), "w2": (64, 96)}
    given = ModuleCall(
        key=Key("L01.mlp", phase, step, user, "isolated"),
        kind="feed_forward",
        spec=spec,
        weights={name: torch.randn(size, generator=weights) / 8 for name, size in sizes.items()},
        formats={},
        input_TD=torch.randn(tokens, 64, generator=generator),
        reference_TC=torch.zeros(tokens, 64),
        port_TC=torch.zeros(tokens, 64),
        floor_rel_l2=0.004,
        positions_T=torch.arange(tokens),
    )
    healthy = NOTHING.predict(given)
    return dataclasses.replace(given, reference_TC=healthy, port_TC=bfloat16(port_of(healthy)))


def test_a_cause_that_explains_every_call_is_agreed_on():
    calls = [call("prefill", 0, 0, lambda y: 4 * y), *(call("decode", step, 0, lambda y: 4 * y, 1) for step in (0, 1))]
    heard = consensus(calls, decode_alone=False)
    best = heard.agreed[0]
    assert best.trial.cause == "reduce_doubled"
    assert best.steady
    assert len(best.experiments) == 3
    assert all(experiment.after < experiment.before / 10 for experiment in best.experiments)


def test_a_cause_of_one_call_that_leaves_the_others_wrong_is_none():
    calls = [
        call("prefill", 0, 0, lambda y: 4 * y),
        call("prefill", 1, 0, lambda y: y.roll(7, 1)),
        call("prefill", 2, 0, lambda y: y.flip(0)),
    ]
    assert not consensus(calls, decode_alone=False).agreed


def test_a_number_fitted_to_each_call_is_less_steady():
    calls = [call("prefill", step, 0, lambda y, k=k: k * y) for step, k in enumerate((1.3, 0.6, 2.7))]
    heard = consensus(calls, decode_alone=False)
    assert heard.agreed[0].trial.cause == "scaled"
    assert not heard.agreed[0].steady


def test_an_order_of_tokens_is_one_for_prompts_of_any_length():
    calls = [call("prefill", 0, user, lambda y: y.roll(1, 0), tokens) for user, tokens in enumerate((40, 56))]
    best = consensus(calls, decode_alone=False).agreed[0]
    assert best.trial.cause == "tokens_permuted"
    assert len(best.experiments) == 2


def test_users_that_changed_places_are_told():
    own = [call("decode", 0, user, lambda y: y, 1) for user in (0, 1, 2)]
    swapped = [
        dataclasses.replace(own[0], port_TC=own[2].port_TC),
        own[1],
        dataclasses.replace(own[2], port_TC=own[0].port_TC),
    ]
    finding = swapped_users(swapped)
    assert finding.cause == "users_swapped"
    assert "user 0" in finding.says
    assert "user 2" in finding.says
    assert finding.experiments[0].after < 0.01 < finding.experiments[0].before
    assert swapped_users(own) is None
    assert swapped_users([swapped[0], call("decode", 1, 2, lambda y: y, 1)]) is None  # another step
