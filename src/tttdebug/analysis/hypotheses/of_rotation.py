# SPDX-License-Identifier: Apache-2.0
"""Causes of an attention's error in how positions turn queries and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.fitting import best_near
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.of_weights import edit
from tttdebug.specs import AttentionSpec, RopeSpec

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench

USUAL_THETAS = (1e4, 1e5, 5e5, 1e6, 1e3, 2.5e5, 1.5e5, 3e5, 5e6, 8e6, 1e7, 1.6e5, 1.5e6)
TIMES_THETA = (0.01, 0.1, 0.5, 2.0, 10.0, 100.0)
FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0)
CONTEXTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Context lengths before they were stretched."""
SHIFTS = (1, -1, 2, -2, 32, -32)


def order(bench: Bench) -> Iterator[Change]:
    """Channels in the other rotary pair order: of queries and keys, or of one of them."""
    from tttdebug.modules.placement import interleave_heads, split_heads_in_halves

    spec = _with_rope(bench)
    if spec is None:
        return
    head, turned = spec.head_dim, spec.rotary_dim
    for of, parts in (("queries and keys", "qk"), ("queries", "q"), ("keys", "k")):
        for reorder, says, fix in (
            (split_heads_in_halves, "in half-split order where neighbours turn together", "to interleaved order"),
            (interleave_heads, "in interleaved order where halves turn together", "out of interleaved order"),
        ):
            matrices, of_bias = [f"w{part}" for part in parts], [f"b{part}" for part in parts]
            for too, names in ((", their biases too", [*matrices, *of_bias]), ("", matrices)):
                if spec.qkv_bias or not too:
                    yield Change(
                        "rope_order",
                        f"the channels of {of} are {says}{too}",
                        Fix(f"bring the rows of {' and '.join(matrices)} {fix} once when they are loaded"),
                        weights=edit(dict.fromkeys(names, _reordering(reorder, head, turned))),
                    )


def missing(bench: Bench) -> Iterator[Change]:
    """No rotation, of both or of one, and one in the other direction."""
    if _with_rope(bench) is None:
        return
    for of, steps in (
        ("queries and keys are", {"turns_queries": False, "turns_keys": False}),
        ("queries are", {"turns_queries": False}),
        ("keys are", {"turns_keys": False}),
    ):
        yield Change(
            "rope_missing", f"{of} not turned by their positions", Fix("apply the rotary embedding"), steps=steps
        )
    yield Change(
        "rope_missing",
        "queries and keys are turned in the other direction: the sign of the sine is wrong",
        Fix("turn (x1, x2) to (x1 cos − x2 sin, x2 cos + x1 sin)"),
        steps={"backwards": True},
    )


def theta(bench: Bench) -> Iterator[Change]:
    """Another base: one that is usual, or the one that fits best."""
    spec = _with_rope(bench)
    if spec is None or spec.rope is None:
        return
    own = spec.rope.theta
    usual = [theta for theta in USUAL_THETAS if theta != own]
    for value in usual:
        yield _theta(own, value)
    centres = (*usual, *(own * times for times in TIMES_THETA))
    fitted = best_near(lambda value: bench.sketch.error(_theta(own, value)), centres, span=3.5)
    if fitted > 1.0:
        yield _theta(own, fitted, fitted=1)


def scaling(bench: Bench) -> Iterator[Change]:
    """The scaling of frequencies left out, or its factor another, or one where none is meant."""
    spec = _with_rope(bench)
    if spec is None or spec.rope is None:
        return
    own = spec.rope
    if own.scaling == "default":
        yield from _scaled_where_none_is_meant()
        return
    meant = f"scale frequencies as {own.scaling} with factor {own.factor:g}"
    yield _scaling(f"the {own.scaling} scaling of frequencies (factor {own.factor:g}) is left out", meant, _plain)
    if own.scaling == "yarn" and own.cos_sin_scale != 1.0:
        says = f"cosine and sine are not multiplied by {own.cos_sin_scale:.4g}"
        yield _scaling(says, f"multiply them by {own.cos_sin_scale:.6g}", partial(_with, attention_factor=1.0))
    for factor in (own.factor, *FACTORS):
        if own.scaling != "linear" or factor != own.factor:
            says = f"frequencies are divided by {factor:g} instead of scaled as {own.scaling}"
            yield _scaling(says, meant, partial(_plain, scaling="linear", factor=factor))
        if factor != own.factor:
            says = f"the scaling factor is {factor:g} instead of {own.factor:g}"
            yield _scaling(says, meant, partial(_with, factor=factor))
    for kind in ("llama3", "yarn"):
        for context in (own.original_max_position, *CONTEXTS):
            if context is not None and (kind, context) != (own.scaling, own.original_max_position):
                for factor in {own.factor, 8.0}:
                    says = f"frequencies are scaled as {kind} by {factor:g} from {context} on instead of {own.scaling}"
                    changes: dict[str, Any] = {"scaling": kind, "factor": factor, "original_max_position": context}
                    yield _scaling(says, meant, partial(_with if kind == own.scaling else _plain, **changes))


def _scaled_where_none_is_meant() -> Iterator[Change]:
    for factor in FACTORS:
        says = f"frequencies are divided by {factor:g}"
        yield _scaling(says, "do not scale frequencies", partial(_plain, scaling="linear", factor=factor))
    for factor in FACTORS[1:]:
        for context in CONTEXTS:
            says = f"frequencies are scaled as llama3 by {factor:g} from {context} on"
            changes: dict[str, Any] = {"scaling": "llama3", "factor": factor, "original_max_position": context}
            yield _scaling(says, "do not scale frequencies", partial(_plain, **changes))


def positions(bench: Bench) -> Iterator[Change]:
    """Positions off by a constant: of queries or of keys, and against a cache of both."""
    if _with_rope(bench) is None:
        return
    last = int(bench.call.positions_T.max())
    shifts = [*SHIFTS, *([-last] if len(bench.call.positions_T) == 1 and last not in (1, 2, 32, 0) else [])]
    of_each = (("queries", ("query_shift",)), ("keys", ("key_shift",)))  # alike without a cache: a step decides
    of_both = (("queries and keys", ("query_shift", "key_shift")),)
    for of, fields in of_each if bench.call.past is None else (*of_both, *of_each):
        for shift in shifts:
            yield Change(
                "position_offset",
                f"the positions of {of} are off by {shift:+d}",
                Fix(f"take the positions of {of} {-shift:+d}"),
                steps=dict.fromkeys(fields, shift),
            )


def turned_channels(bench: Bench) -> Iterator[Change]:
    """Another number of channels that turn."""
    spec = _with_rope(bench)
    if spec is None or spec.rope is None:
        return
    for turned in sorted({spec.head_dim, spec.head_dim // 2, spec.head_dim // 4}):
        if turned != spec.rotary_dim and turned >= 2 and turned % 2 == 0:
            says = f"{turned} channels of a head turn instead of {spec.rotary_dim}"
            meant = f"turn the first {spec.rotary_dim} channels of a head"
            yield _scaling(says, meant, partial(_with, rotary_dim=turned), "rope_missing")


def _with_rope(bench: Bench) -> AttentionSpec | None:
    spec = bench.call.spec
    return spec if isinstance(spec, AttentionSpec) and spec.rope is not None else None


def _reordering(reorder: Any, head_dim: int, rotary_dim: int) -> Any:
    return lambda rows: reorder(rows, head_dim, rotary_dim)


def _theta(own: float, value: float, fitted: int = 0) -> Change:
    return Change(
        "rope_theta",
        f"rope theta {value:.3g} instead of {own:g}" if fitted else f"rope theta {value:g} instead of {own:g}",
        Fix(f"set the rotary base to {own:g}", f"rope_theta = {own:g}"),
        spec=lambda spec: replace(spec, rope=replace(spec.rope, theta=value)),
        fitted=fitted,
    )


def _scaling(says: str, fix: str, rope: Callable[[RopeSpec], RopeSpec], cause: str = "rope_scaling") -> Change:
    return Change(cause, says, Fix(fix), spec=lambda spec: replace(spec, rope=rope(spec.rope)))


def _with(own: RopeSpec, **changes: Any) -> RopeSpec:
    return replace(own, **changes)


def _plain(own: RopeSpec, **changes: Any) -> RopeSpec:
    """Of a rope only its base and its width, with another scaling or none."""
    return RopeSpec(theta=own.theta, rotary_dim=own.rotary_dim, **changes)
