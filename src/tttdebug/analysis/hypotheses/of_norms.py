# SPDX-License-Identifier: Apache-2.0
"""Causes of a norm's error: its gain, its mean, its epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.bench import FEW_TOKENS
from tttdebug.analysis.hypotheses.fitting import best_on_a_log_scale
from tttdebug.analysis.hypotheses.hypothesis import Change, Hypothesis
from tttdebug.analysis.hypotheses.of_weights import edit
from tttdebug.analysis.mathematics import Numbers
from tttdebug.specs import NormSpec

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench

USUAL_EPS = (1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-4, 1e-2)


def of_norm(bench: Bench) -> Iterator[Change]:
    """What may be wrong with a norm."""
    spec = bench.call.spec
    if not isinstance(spec, NormSpec):
        return
    yield _without_gain()
    if spec.bias:
        yield Change("bias_missing", "the norm's bias is not added", Fix("add it"), steps={"applies_bias": False})
    yield _unit_offset(spec)
    yield Change(
        "norm_sum_for_mean",
        f"squares are summed where their mean over {spec.hidden_dim} is meant",
        Fix(f"divide the sum of squares by {spec.hidden_dim}"),
        steps={"sums_squares": True},
    )
    yield _other_type(spec)
    for eps in USUAL_EPS:
        if eps != spec.eps:
            yield _eps(spec, eps, fitted=0)
    fitted = best_on_a_log_scale(lambda eps: bench.sketch.error(_eps(spec, eps, fitted=1)), 1e-12, 1e3, 16)
    yield _eps(spec, fitted, fitted=2)  # and that it is none of the usual ones


def other_gain(bench: Bench) -> Iterator[Change]:
    """A gain that is neither right nor wrong in a simple way, as another norm's or another layer's."""
    import torch

    spec = bench.call.spec
    if not isinstance(spec, NormSpec) or len(bench.port_TC) < FEW_TOKENS:
        return
    without = bench.predict(Hypothesis((_without_gain(),)))
    bias = bench.arithmetic.weight("bias") if spec.bias else 0.0
    normed_TC, port_TC = without - bias, bench.port_TC - bias
    found_C = (normed_TC * port_TC).sum(0) / normed_TC.square().sum(0).clamp_min(1e-30)
    found_C -= float(spec.unit_offset)
    meant_C = bench.call.weights["weight"].float()
    alike = float(torch.nn.functional.cosine_similarity(found_C - found_C.mean(), meant_C - meant_C.mean(), dim=0))
    yield Change(
        "weight_stale",
        f"the norm holds another gain, of mean {float(found_C.mean()):.3g} instead of {float(meant_C.mean()):.3g} and "
        f"{alike:.2f} correlated with its own: another norm's, or another layer's",
        Fix("load this norm's own gain"),
        weights=edit({"weight": lambda gain: found_C.reshape(gain.shape)}),
        fitted=len(found_C),
    )


def _without_gain() -> Change:
    return Change(
        "norm_gain_missing",
        "the gain is not applied",
        Fix("give the norm its weight", "ttnn.rms_norm(x, weight=gain, epsilon=eps)"),
        steps={"applies_gain": False},
    )


def _unit_offset(spec: NormSpec) -> Change:
    if spec.unit_offset:
        return Change(
            "norm_unit_offset",
            "the gain is used as w where the model means 1 + w",
            Fix("add 1 to the gain when it is loaded"),
            spec=lambda spec: replace(spec, unit_offset=False),
            numbers=_kept_as_it_is,
        )
    return Change(
        "norm_unit_offset",
        "the gain is used as 1 + w where the model means w",
        Fix("do not add 1 to the gain when it is loaded"),
        weights=edit({"weight": lambda w: w + 1.0}),
    )


def _kept_as_it_is(numbers: Numbers) -> Numbers:
    """The gain in its format without the one added first."""
    from tttdebug.modules.placement import Vector, WeightFormat

    gain = numbers.formats.get("weight")
    if not isinstance(gain, WeightFormat):
        return numbers
    return replace(numbers, formats={**numbers.formats, "weight": replace(gain, layout=Vector())})


def _other_type(spec: NormSpec) -> Change:
    if spec.norm_type == "layernorm":
        says, fix, other = "the mean is not subtracted", "use layer_norm, not rms_norm", "rmsnorm"
    else:
        says, fix, other = "the mean is subtracted where it should not be", "use rms_norm, not layer_norm", "layernorm"
    return Change("norm_mean_kept", says, Fix(fix), spec=lambda spec: replace(spec, norm_type=other))


def _eps(spec: NormSpec, eps: float, fitted: int) -> Change:
    digits = (
        f"{eps:.0e}" if not fitted else f"{eps:.{0 if math.isclose(eps, float(f'{eps:.0e}'), rel_tol=0.05) else 1}e}"
    )
    return Change(
        "norm_eps",
        f"epsilon is {digits} instead of {spec.eps:g}",
        Fix(f"set epsilon to {spec.eps:g}", f"ttnn.rms_norm(x, weight=gain, epsilon={spec.eps:g})"),
        spec=lambda spec: replace(spec, eps=eps),
        fitted=fitted,
    )
