# SPDX-License-Identifier: Apache-2.0
"""Causes of an attention's error in its scores, mask and softmax."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.fitting import best_on_a_log_scale
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

TILE = 32
_WIDEST_OF_A_STEP = 128  # windows that are tried one by one on a single query
_BEFORE_IT_SHOWS = 12  # positions by which a window may bite before its error stands out
AHEAD = (2, 3, 4, 8, 16, 31, 32)
USUAL_CAPS = (50.0, 30.0, 20.0, 15.0)
CAPS = (0.5, 500.0)
"""Between which a cap is sought."""
WINDOWS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def scale(bench: Bench) -> Iterator[Change]:
    """Scores multiplied by something else: one, 1/E, the scale twice, that of padded heads, or what fits best."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        return
    own, width = spec.softmax_scale, spec.head_dim
    padded = -(-width // TILE) * TILE
    likely = {
        1.0: "the scores are not scaled",
        own**2: "the scores are scaled twice",
        1.0 / width: f"the scores are divided by {width} instead of its square root",
        width**-0.5: f"the scores are divided by the square root of the head dimension {width}",
        padded**-0.5: f"the scores are divided by the square root of the padded head dimension {padded}",
        spec.hidden_dim**-0.5: f"the scores are divided by the square root of the hidden dimension {spec.hidden_dim}",
        width**0.5: f"the scores are multiplied by the square root of {width}",
    }
    for value, says in likely.items():
        if not math.isclose(value, own):
            yield _scale(own, value, f"{says} (scale {value:.5g} instead of {own:.5g})")
    fitted = best_on_a_log_scale(lambda value: bench.sketch.error(_scale(own, value, "")), own / 32, own * 128, 13)
    yield _scale(own, fitted, f"the scores are multiplied by {fitted:.4g} instead of {own:.4g}", fitted=1)


def mask(bench: Bench) -> Iterator[Change]:
    """No mask, one that hides the diagonal, or a causal one where none is meant."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        return
    if len(bench.call.port_TC) > 1 and (spec.causal or spec.sliding_window is not None):
        yield Change(
            "mask_missing",
            "every query sees every position: there is no mask",
            Fix("mask what comes after the query", "scaled_dot_product_attention(q, k, v, is_causal=True)"),
            steps={"mask": "none"},
        )
    if spec.causal:
        hidden = "a query does not see its own position: the diagonal is masked"
        one = "a query sees the position after its own: the mask begins one too far"
        seen = {ahead: f"a query sees {ahead} positions after its own: the mask begins too far" for ahead in AHEAD}
        for shift, says in {-1: hidden, 1: one, **seen}.items():
            fix = Fix("mask the positions after the query only: triu(diagonal=1)")
            beyond = partial(_as_in_port_at_the_end, max(shift, 0))
            yield Change("mask_wrong", says, fix, steps={"mask_shift": shift}, output=beyond)
        if spec.sliding_window is not None:
            yield Change(
                "mask_wrong",
                "a query sees what the position before its own should see: mask and window end one too early",
                Fix("attend at the token's own position", "cur_pos=position"),
                steps={"mask_shift": -1, "window_shift": -1},
            )
    else:
        yield Change(
            "mask_wrong",
            "a query sees no position after its own, where it should see all",
            Fix("do not mask", "scaled_dot_product_attention(q, k, v, is_causal=False)"),
            spec=lambda spec: replace(spec, causal=True),
        )


def window(bench: Bench) -> Iterator[Change]:
    """A window that is left out, is meant and not there, is one too wide or narrow, or begins where the error does."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        return
    own, last = spec.sliding_window, int(bench.call.positions_T.max())
    if own is not None:
        yield _window(own, None)
    if len(bench.call.port_TC) == 1:
        near = range(1, min(last, _WIDEST_OF_A_STEP))
    else:
        first_bad = _first_bad_position(bench)
        near = range(max(1, first_bad - _BEFORE_IT_SHOWS), first_bad + 1)
    fitted = min(near, key=lambda width: bench.sketch.error(_window(own, width)), default=0)
    guesses = (*WINDOWS, fitted, *((own - 1, own + 1, own // 2, own * 2) if own else ()))
    for width in sorted({guess for guess in guesses if guess and guess <= last and guess != own}):
        yield _window(own, width, fitted=int(width not in WINDOWS))


def padding(bench: Bench) -> Iterator[Change]:
    """Keys of zeros that the softmax counts: up to the next whole tile, whole chunks more, or as many as fit best."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        return
    keys = int(bench.call.positions_T.max()) + 1
    likely = {(-keys) % size for size in (32, 64, 128, 256, 512)} | {32, 64, 128}
    for count in sorted(likely - {0}):
        yield _padding(count)
    best = best_on_a_log_scale(
        lambda count: bench.sketch.error(_padding(max(1, round(count)))), 1, 4096, 9, refinements=8
    )
    if (count := max(1, round(best))) not in likely:
        yield _padding(count, fitted=1)


def softcap(bench: Bench) -> Iterator[Change]:
    """Scores that are capped where they should not be, or not where they should, or at another value."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec):
        return
    yield from caps(bench, "scores", spec.logit_softcap)


def caps(bench: Bench, what: str, own: float | None) -> Iterator[Change]:
    """Scores or logits without their cap, or with one that is usual, or that fits best."""
    if own is not None:
        yield _cap(what, own, None)
    for cap in USUAL_CAPS:
        if cap != own:
            yield _cap(what, own, cap)
    fitted = best_on_a_log_scale(lambda cap: bench.sketch.error(_cap(what, own, cap)), *CAPS, points=15)
    yield _cap(what, own, float(f"{fitted:.3g}"), fitted=1)


def head_norm(bench: Bench) -> Iterator[Change]:
    """The norm of queries and keys left out, of both or of one."""
    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec) or spec.qk_norm is None:
        return
    for of, steps in (
        ("queries and keys", {"norms_queries": False, "norms_keys": False}),
        ("queries", {"norms_queries": False}),
        ("keys", {"norms_keys": False}),
    ):
        yield Change("head_norm_missing", f"the norm of {of} is not applied", Fix(f"normalise {of}"), steps=steps)


def _as_in_port_at_the_end(count: int, out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
    """The last tokens as the port has them: they see padding, of which nothing is known."""
    import torch

    if not count or len(out_TC) != len(call.port_TC) or len(out_TC) < 4 * count:
        return out_TC
    return torch.cat([out_TC[:-count], call.port_TC[-count:].float()])


def _scale(own: float, value: float, says: str, fitted: int = 0) -> Change:
    return Change(
        "attention_scale",
        says,
        Fix(f"scale the scores by {own:.6g}", f"scaled_dot_product_attention(q, k, v, scale={own:.6g})"),
        spec=lambda spec: replace(spec, scale=value),
        fitted=fitted,
    )


def _window(own: int | None, width: int | None, fitted: int = 0) -> Change:
    meant = "where no window is meant" if own is None else f"instead of {own}"
    says = f"no sliding window is applied, {own} is meant" if width is None else f"a sliding window of {width} {meant}"
    return Change(
        "window",
        says,
        Fix(
            "leave the sliding window out" if own is None else f"set the sliding window to {own}",
            f"scaled_dot_product_attention(q, k, v, sliding_window_size={own})",
        ),
        spec=lambda spec: replace(spec, sliding_window=width),
        fitted=fitted,
    )


def _first_bad_position(bench: Bench) -> int:
    """The position of the first token whose error stands out, from which on a window would bite."""
    error_T = (bench.port_TC - bench.healthy_TC).norm(dim=-1) / bench.healthy_TC.norm(dim=-1).clamp_min(1e-30)
    bad_T = error_T > max(3 * bench.floor, 0.1 * float(error_T.max()))
    return int(bench.memory.asked(bench.call.positions_T)[bad_T][0]) if bool(bad_T.any()) else 0


def _padding(count: int, fitted: int = 0) -> Change:
    return Change(
        "padding_keys",
        f"the softmax runs over {count} padding keys too",
        Fix(f"mask the {count} padding positions before the softmax"),
        steps={"padding_keys": count},
        fitted=fitted,
    )


def _cap(what: str, own: float | None, cap: float | None, fitted: int = 0) -> Change:
    says = f"{what} are not capped at {own:g}" if cap is None else f"{what} are capped at {cap:g}"
    if cap is not None:
        says += " where the model has no cap" if own is None else f" instead of {own:g}"
    fix = f"do not cap the {what}" if own is None else f"cap the {what}: {own:g} * tanh({what} / {own:g})"
    return Change("softcap", says, Fix(fix), spec=lambda spec: replace(spec, logit_softcap=cap), fitted=fitted)
