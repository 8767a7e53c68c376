# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in the cache of keys and values: what a step wrote where, and what it finds there.

P positions before the call, K key/value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics.rotary_order import in_halves
from tttdebug.analysis.module_call import KeysValues
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench

BLOCKS = (32, 64, 128)
_SHIFTS = (1, -1)
_ALIKE = 0.95  # the cosine from which on two keys or values are the same one, whatever the format costs
_UPDATE = "update_idxs_tensor=positions"


def own_token(bench: Bench) -> Iterator[Change]:
    """The step's own key and value not where they belong: never written, or written a position ahead or behind.

    What stands there instead is what the port's cache holds, where that is known, else zeros.
    """
    if _past(bench) is None:
        return
    held = bench.port_fresh
    if held is not None and _is_own(bench, held):
        return
    stands = "nothing" if held is None else "what was there before"
    if held is not None and _alike(_last(held), _before_last(bench)):
        yield _own_elsewhere("the newest token's place holds the one before: steps write one position ahead", held)
        return
    yield Change(
        "kv_stale",
        f"the newest token's key and value are not written: {stands} is in their place",
        Fix("write the key and value of the token before attending", _UPDATE),
        steps={"own_written": False, "own_found": held},
        fitted=int(held is not None),
    )
    yield _own_elsewhere(f"the newest token's key and value are elsewhere: {stands} is in their place", held)
    yield _own_elsewhere("the newest token's key and value are written over those of the token before", held, "before")


def behind_own_token(bench: Bench) -> Iterator[Change]:
    """A step that sees what stands in the cache behind its own token: zeros, padding, or what was left there."""
    held = in_halves(bench.call, bench.arithmetic, bench.call.behind)
    if held is None or _past(bench) is None:
        return
    count = held.keys_KPE.shape[1]
    steps: dict[str, Any] = {"behind": held}
    window = bench.call.spec.sliding_window if isinstance(bench.call.spec, AttentionSpec) else None
    for shift in (0,) if window is None else (0, count):
        yield Change(
            "mask_wrong",
            f"a step sees what stands in the cache behind its own token: {count} more places, where no token should be",
            Fix("attend at the token's own position, up to which keys are valid", "cur_pos_tensor=positions"),
            steps=steps | {"window_shift": shift},
        )


def _own_elsewhere(says: str, held: KeysValues | None, written: bool | str = False) -> Change:
    fix = Fix("write at the token's own position", _UPDATE)
    return Change(
        "kv_position", says, fix, steps={"own_written": written, "own_found": held}, fitted=int(held is not None)
    )


def _is_own(bench: Bench, held: KeysValues) -> bool:
    """Whether the port's cache holds the newest token's key or its value at its position, perhaps turned otherwise."""
    own = KeysValues(bench.heads.keys_KSE, bench.heads.values_KSE)
    if own.keys_KPE[:, -1:].shape != held.keys_KPE[:, -1:].shape:
        return False
    return any(float(_cosine(*sides)) > _ALIKE for sides in zip(_last(held), _last(own), strict=True))


def _last(held: KeysValues) -> tuple[torch.Tensor, torch.Tensor]:
    return held.keys_KPE[:, -1].float(), held.values_KPE[:, -1].float()


def _before_last(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    return bench.heads.keys_KSE[:, -2], bench.heads.values_KSE[:, -2]


def _alike(these: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...]) -> bool:
    return all(float(_cosine(one, other)) > _ALIKE for one, other in zip(these, others, strict=True))


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)


def step_position(bench: Bench) -> Iterator[Change]:
    """The whole step at another position: it turns, attends and writes there."""
    past = _past(bench)
    if past is None:
        return
    length = past.keys_KPE.shape[1]
    for shift in (1, -1, 2, -2, -length, -length % 32):
        if shift and -length <= shift:
            yield Change(
                "position_offset",
                f"the step is taken at a position off by {shift:+d}",
                Fix(f"give the step its position {-shift:+d}"),
                steps={"step_at": shift},
            )


def past_positions(bench: Bench) -> Iterator[Change]:
    """What was cached before stands one position off, so that one end of it is lost."""
    if _past(bench) is None:
        return
    for shift in _SHIFTS:
        yield _edited(
            "kv_position",
            f"the keys and values before this step stand {shift:+d} from their positions",
            "write the prompt from position 0 on",
            _shifted(shift),
        )


def past_blocks(bench: Bench) -> Iterator[Change]:
    """One block of the cache empty, or holding what another holds; the last, unfilled one empty too."""
    past = _past(bench)
    if past is None:
        return
    length = past.keys_KPE.shape[1]
    yield _edited(
        "kv_stale", "the cache before this step is empty", "fill the cache in the prefill", _zeroed(0, length)
    )
    for size in BLOCKS:
        for start in range(0, length, size):
            end = min(start + size, length)
            if end - start < length:
                where = f"positions {start}..{end - 1}"
                yield _edited("kv_stale", f"the cache is empty at {where}", f"fill {where}", _zeroed(start, end))


def copied_blocks(bench: Bench) -> Iterator[Change]:
    """A block of the cache that holds another's keys and values: a page table that names one page twice."""
    past = _past(bench)
    if past is None:
        return
    length = past.keys_KPE.shape[1]
    for size in BLOCKS:
        starts = range(0, length - size + 1, size)
        if 2 <= len(starts) <= 8:
            for start in starts:
                for source in starts:
                    if source != start:
                        yield _edited(
                            "kv_block_swapped",
                            f"the cache's block of {size} from position {start} holds that from position {source}",
                            "let the page table name every page once",
                            _copied(start, source, size),
                        )


def other_values(bench: Bench) -> Iterator[Change]:
    """Values in the place of keys, or in another order of blocks than the keys'."""
    past = _past(bench)
    if past is None:
        return
    length = past.keys_KPE.shape[1]
    yield _edited(
        "kv_block_swapped",
        "keys and values of the cache are exchanged",
        "exchange the two caches",
        lambda past: KeysValues(past.values_KPE, past.keys_KPE),
    )
    for size in BLOCKS:
        blocks = length // size
        for one in range(min(blocks, 8)):
            for other in range(one + 1, min(blocks, 8)):
                yield _edited(
                    "kv_block_swapped",
                    f"blocks {one} and {other} of {size} positions have changed places among the keys, not the values",
                    "read and write both caches by one page table",
                    _keys_exchanged(one * size, other * size, size),
                )


def _past(bench: Bench) -> KeysValues | None:
    past = bench.call.past
    there = isinstance(bench.call.spec, AttentionSpec) and past is not None and past.keys_KPE.shape[1] > 0
    return past if there else None


def _edited(cause: str, says: str, fix: str, edit: Callable[[KeysValues], KeysValues]) -> Change:
    return Change(cause, says, Fix(fix), steps={"edit_past": edit})


def _both(past: KeysValues, edit: Callable[[torch.Tensor], torch.Tensor]) -> KeysValues:
    return KeysValues(edit(past.keys_KPE), edit(past.values_KPE))


def _shifted(shift: int) -> Callable[[KeysValues], KeysValues]:
    import torch

    def moved(kept_KPE: torch.Tensor) -> torch.Tensor:
        empty_K1E = torch.zeros_like(kept_KPE[:, :1])
        parts = (empty_K1E, kept_KPE[:, :-1]) if shift > 0 else (kept_KPE[:, 1:], empty_K1E)
        return torch.cat(parts, dim=1)

    return lambda past: _both(past, moved)


def _zeroed(start: int, end: int) -> Callable[[KeysValues], KeysValues]:
    def zeroed(kept_KPE: torch.Tensor) -> torch.Tensor:
        changed_KPE = kept_KPE.clone()
        changed_KPE[:, start:end] = 0.0
        return changed_KPE

    return lambda past: _both(past, zeroed)


def _copied(start: int, source: int, size: int) -> Callable[[KeysValues], KeysValues]:
    def copied(kept_KPE: torch.Tensor) -> torch.Tensor:
        changed_KPE = kept_KPE.clone()
        changed_KPE[:, start : start + size] = kept_KPE[:, source : source + size]
        return changed_KPE

    return lambda past: _both(past, copied)


def _keys_exchanged(one: int, other: int, size: int) -> Callable[[KeysValues], KeysValues]:
    def exchanged(past: KeysValues) -> KeysValues:
        keys_KPE = past.keys_KPE.clone()
        keys_KPE[:, one : one + size] = past.keys_KPE[:, other : other + size]
        keys_KPE[:, other : other + size] = past.keys_KPE[:, one : one + size]
        return KeysValues(keys_KPE, past.values_KPE)

    return exchanged
