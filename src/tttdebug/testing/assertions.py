# SPDX-License-Identifier: Apache-2.0
"""Assertions that two tensors agree; one that fails tells how they differ, where, and by how much.

Tensors may be torch's, ttnn's, the emulator's, or numpy arrays. Nothing here imports torch before the first comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison


def assert_pcc(
    actual: Any, reference: Any, pcc: float = 0.99, *, name: str = "actual", token_dim: int | None = -2
) -> None:
    """Raise AssertionError unless Pearson's correlation of `actual` with `reference` is at least `pcc`.

    A non-finite value that the reference does not hold fails too. pcc is blind to scale and offset, and nearly so to
    one bad token: prefer `assert_rel_l2`, or `accuracy_gate` with several limits, where those matter.
    """
    __tracebackhide__ = True
    require(compared(actual, reference, token_dim), name, pcc=pcc)


def assert_rel_l2(
    actual: Any, reference: Any, limit: float, *, name: str = "actual", token_dim: int | None = -2
) -> None:
    """Raise AssertionError unless ‖actual − reference‖ / ‖reference‖ is at most `limit`; non-finite values as above."""
    __tracebackhide__ = True
    require(compared(actual, reference, token_dim), name, rel_l2=limit)


def assert_within_floor(
    actual: Any, reference: Any, floor: Any, *, name: str = "actual", token_dim: int | None = -2
) -> None:
    """Raise AssertionError unless number formats alone explain the error of `actual`: about three times their floor.

    `floor` is the reference's own output with its weights in the port's formats, of the reference's shape, or the
    rel_l2 of that, as in `Record.floor_rel_l2`. Raises ValueError for a floor that is no number from 0 on: nothing is
    within it, or everything.
    """
    __tracebackhide__ = True
    from tttdebug.tracking.gates import explained_by_floor

    floor_rel_l2 = float(floor) if isinstance(floor, (int, float)) else compared(floor, reference, token_dim).rel_l2
    if not 0 <= floor_rel_l2 < math.inf:
        raise ValueError(f"the floor of {name} is {floor_rel_l2}; give its finite rel_l2, or an output that has one")
    comparison = compared(actual, reference, token_dim)
    tokens = len(comparison.profile.token_pcc) or 1
    require(comparison, f"{name} (floor {floor_rel_l2:.4g})", rel_l2=explained_by_floor(floor_rel_l2, tokens))


def compared(actual: Any, reference: Any, token_dim: int | None = -2) -> Comparison:
    """The comparison of two tensors of any supported kind. Raises LayoutError where their shapes differ."""
    from tttdebug.tracking.comparison import compare

    return compare(_as_torch(reference), _as_torch(actual), token_dim=token_dim)


def require(comparison: Comparison, name: str, **limits: float | None) -> None:
    """Raise AssertionError with the whole story unless the comparison holds all limits."""
    __tracebackhide__ = True
    missed = comparison.failures(**limits)
    if missed:
        raise AssertionError(explanation(comparison, name, missed))


def explanation(comparison: Comparison, name: str, missed: tuple[str, ...]) -> str:
    """Several lines: the limits that were missed, then how the two sides differ and where."""
    return "\n  ".join((f"{name} differs from its reference: {'; '.join(missed)}", *_details(comparison)))


def _details(comparison: Comparison) -> Iterator[str]:
    c = comparison
    if abs(c.slope - 1) > 0.02 and c.pcc > 0.99:
        yield (
            f"it is the reference times {c.slope:.3f}: "
            "look for a scale left out or applied twice, or a sum where a mean belongs"
        )
    yield (
        f"pcc {c.pcc:.6g}, rel_l2 {c.rel_l2:.4g}, slope {c.slope:.4g}, norm ratio {c.norm_ratio:.4g}, "
        f"cosine {c.cosine:.6g}, bf16 ulp p50 {c.ulp_p50:g} p99 {c.ulp_p99:g} max {c.ulp_max:g}"
    )
    elements = math.prod(c.shape)
    yield f"shape {list(c.shape)}: {c.differing:,} of {elements:,} elements differ"
    if c.worst_token >= 0:
        tokens = len(c.profile.token_pcc)
        worst_pcc, last_pcc = f"{c.worst_token_pcc:.4g}", f"{c.last_token_pcc:.4g}"
        yield f"worst token {c.worst_token} of {tokens} (pcc {worst_pcc}); last token pcc {last_pcc}"
    if c.profile.worst:
        at, reference, port = c.profile.worst[0]
        yield f"greatest error {c.max_abs_diff:.4g} at {list(at)}: {port:.6g}, the reference holds {reference:.6g}"
    if not c.nonfinite_port + c.nonfinite_reference:
        yield "non-finite: none on either side"
    if c.note:
        yield f"note: {c.note}"


def _as_torch(value: Any) -> Any:
    import numpy as np
    import torch

    from tttdebug.backends.readback import to_torch

    return torch.tensor(value) if isinstance(value, (np.ndarray, np.generic)) else to_torch(value)
