# SPDX-License-Identifier: Apache-2.0
"""The package's own gates, written as a file of thresholds to start from."""

from __future__ import annotations

from collections.abc import Iterator

from tttdebug.testing.thresholds import Thresholds, thresholds_from_toml
from tttdebug.tracking.floor import FEW_TOKENS
from tttdebug.tracking.gates import default_gate

ORIGIN = "the default thresholds"
_HEADER = """\
# Thresholds of `tttdebug gate`. Of two that limit the same metric of a record, the later one counts.
# What misses its limit passes where floor_excuses is true and its number formats explain the error (its floor).
# optional = true lets a threshold match nothing, as one of logits does for a model that has none.
"""
_BFLOAT4 = "bfloat4_b"
_FEW = "# Few tokens scatter more: short prompts, and every decode step, which has one.\n"
_BRANCH = "L00.mlp"
_OTHERS = {  # pattern, and a boundary that stands for all that it names
    "*norm": "final_norm",
    "embed": "embed",
    "L*.layer_out": "L00.layer_out",
    "logits": "logits",
}


def default_thresholds() -> Thresholds:
    """What `default_thresholds_toml` writes, read."""
    return thresholds_from_toml(default_thresholds_toml(), ORIGIN)


def default_thresholds_toml() -> str:
    """What `default_gate` asks of each kind of boundary, as TOML."""
    return "\n".join((_HEADER, *_tables(FEW_TOKENS), _FEW, *_tables(1, f"tokens_below = {FEW_TOKENS}")))


def _tables(tokens: int, *conditions: str) -> Iterator[str]:
    everywhere = default_gate(_BRANCH, tokens=tokens)
    with_bfloat4 = default_gate(_BRANCH, weight_dtypes=[_BFLOAT4], tokens=tokens)
    yield _table("*", *conditions, f"pcc = {everywhere.pcc}", f"slope = {everywhere.slope_tolerance}")
    if with_bfloat4 != everywhere:
        yield _table("*", *conditions, f'when = "{_BFLOAT4}"', f"pcc = {with_bfloat4.pcc}")
    for pattern, boundary in _OTHERS.items():
        gate = default_gate(boundary, tokens=tokens)
        yield _table(pattern, *conditions, f"pcc = {gate.pcc}", "optional = true")


def _table(pattern: str, *lines: str) -> str:
    return "\n".join(("[[threshold]]", f'boundaries = "{pattern}"', *lines, "floor_excuses = true", ""))
