# SPDX-License-Identifier: Apache-2.0
"""What makes a run no proof, whatever its numbers: things not compared, or not what they should have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from tttdebug.errors import ThresholdError
from tttdebug.testing.record_columns import RecordColumns, read_columns, rows_of
from tttdebug.testing.thresholds import Allowance, Thresholds, names, nearest
from tttdebug.tracking.calls import CONTRADICTION
from tttdebug.tracking.manifest import Manifest, Skipped
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ACCUMULATED, CALLS, MANIFEST
from tttdebug.tracking.spread import REPLICAS_DIFFER

_EMBED = "embed"
_SAME_TOKENS_PCC = 0.9  # of an embedding: bfloat4_b leaves 0.993, another token nothing


@dataclass(frozen=True)
class Baseline:
    """An earlier run, whose every comparison has to be there again."""

    path: Path
    manifest: Manifest
    columns: RecordColumns


def read_baseline(run: str | Path) -> Baseline:
    """Raises RunError where the folder holds no run, or a damaged one."""
    path = Path(run)
    manifest = Manifest.read(path / MANIFEST)
    return Baseline(path, manifest, read_columns(path, manifest, ()))


def vanished_since(baseline: Baseline, columns: RecordColumns, skipped: Iterable[Skipped]) -> list[Key]:
    """The comparisons that were made then and are neither made nor skipped now, experiments aside."""
    known = {*columns.keys, *((*_call(entry), ACCUMULATED) for entry in skipped)}
    return [Key(*key) for key in baseline.columns.keys if key[-1] == ACCUMULATED and key not in known]


def allowed_skips(manifest: Manifest, thresholds: Thresholds) -> list[Skipped]:
    """The skipped comparisons that the thresholds allow. Raises ThresholdError for an allowance of nothing."""
    for allowance in thresholds.allowed_skips:
        if not any(_allows(allowance, entry) for entry in manifest.skipped):
            said = dict.fromkeys(f"{entry.boundary}: {entry.reason}" for entry in manifest.skipped)
            allowed = f"{allowance.boundary}: {allowance.reason}"
            raise ThresholdError(
                f'{thresholds.origin}, [allow]: this run skipped nothing that is "{allowed}"; '
                f"{nearest(allowed, said)}; mend it, or take it out"
            )
    return [entry for entry in manifest.skipped if any(_allows(each, entry) for each in thresholds.allowed_skips)]


def _allows(allowance: Allowance, entry: Skipped) -> bool:
    return names(allowance.boundary, entry.boundary) and fnmatchcase(entry.reason, allowance.reason)


def objections(
    run: Path,
    manifest: Manifest,
    columns: RecordColumns,
    allowed: Sequence[Skipped],
    *,
    vanished: Sequence[Key] = (),
    baseline: Baseline | None = None,
    reference_digest: str | None = None,
) -> Iterator[str]:
    """A sentence for each reason why this run proves nothing."""
    if not manifest.finished:
        yield f"the run did not finish: {manifest.status}"
    compared = columns.words["mode"].count(ACCUMULATED)
    if compared == 0:
        yield "nothing was compared"
    if manifest.finished and compared + len(manifest.skipped) != manifest.expected:
        yield (
            f"{manifest.expected} comparisons were expected, but {compared} made and {len(manifest.skipped)} skipped: "
            "something is missing without a reason"
        )
    if manifest.wrong_weights:
        yield manifest.wrong_weights
    yield from _skipped(manifest, allowed)
    yield from _twice(columns)
    yield from _vanished(vanished, baseline)
    digest = str(manifest.model.get("weights_digest", ""))
    if reference_digest is not None and not digest.startswith(reference_digest.lower()):
        yield f"the reference is another: its weights have digest {digest or 'unknown'}, not {reference_digest}"
    if baseline is not None and digest != baseline.manifest.model.get("weights_digest", ""):
        yield f"the reference is not that of {baseline.path}: its weights have digest {digest or 'unknown'}"
    for reason in manifest.refused_goldens:
        yield f"a golden that was given is not that of this run: {reason}"
    yield from _said_in_notes(columns)
    yield from _teacher_forcing(run, manifest, columns)


def _skipped(manifest: Manifest, allowed: Sequence[Skipped]) -> Iterator[str]:
    refused = Counter(manifest.skipped)
    refused.subtract(allowed)
    reasons: dict[str, list[Skipped]] = {}
    for entry in refused.elements():
        reasons.setdefault(entry.reason, []).append(entry)
    for reason, entries in reasons.items():
        yield f"{len(entries)} skipped, first {entries[0].boundary} in {_step(entries[0])}: {reason}"


def _twice(columns: RecordColumns) -> Iterator[str]:
    accumulated = Counter(key for key in columns.keys if key[-1] == ACCUMULATED)
    repeated = [key for key, count in accumulated.items() if count > 1]
    if repeated:
        first = Key(*repeated[0])
        yield f"{len(repeated)} comparisons are there more than once, first {first.boundary} in {_step(first)}"


def _vanished(vanished: Sequence[Key], baseline: Baseline | None) -> Iterator[str]:
    by_boundary = Counter((key.boundary, key.phase) for key in vanished)
    for (boundary, phase), count in by_boundary.items():
        where = baseline.path if baseline else ""
        yield f"{boundary} in {phase} vanished: {count} comparisons of {where} are not in this run"


def _said_in_notes(columns: RecordColumns) -> Iterator[str]:
    """What tracking wrote down that no metric can make good."""
    told, differing = [], []
    for row, note in enumerate(columns.words["note"]):
        if note and (found := CONTRADICTION.search(note)):
            told.append((row, found[0]))
        if note and REPLICAS_DIFFER in note:
            differing.append((row, note.partition(";")[0]))
    for kind, rows in (("a call was not what the reference's was", told), ("a mesh disagrees", differing)):
        if rows:
            key = columns.key(rows[0][0])
            yield f"{kind}: {len(rows)} records, first {key.boundary} in {_step(key)}: {rows[0][1]}"


def _teacher_forcing(run: Path, manifest: Manifest, columns: RecordColumns) -> Iterator[str]:
    """Whether the reference's tokens reached the port: a call for every step, at its position, of its token."""
    if not manifest.decode_steps or len(columns) == 0:
        return
    decoded = {(step, user) for _, phase, step, user, mode in columns.keys if phase == "decode" and mode == ACCUMULATED}
    decoded |= {(entry.step, entry.user) for entry in manifest.skipped if entry.phase == "decode"}
    due = [(step, user) for user in range(len(manifest.prompts)) for step in range(manifest.decode_steps)]
    if absent := [call for call in due if call not in decoded]:
        step, user = absent[0]
        yield (
            f"the reference's tokens did not reach the port in {len(absent)} of {len(due)} decode steps, first step "
            f"{step} of user {user}: nothing was compared there"
        )
    yield from _other_positions(run, manifest)
    others = _of_other_tokens(columns)
    if others:
        yield (
            f"the port did not read the reference's token in {len(others)} calls, first {_step(others[0])}, user "
            f"{others[0].user}: its embed is that of another"
        )


def _other_positions(run: Path, manifest: Manifest) -> Iterator[str]:
    """Decode calls that were told a position at which none of the run's users is in that step."""
    lengths = {int(prompt["tokens"]) for prompt in manifest.prompts if "tokens" in prompt}
    path, wrong = run / CALLS, []
    if manifest.finished and not path.is_file():  # runs of an earlier version have none
        return
    for calls in rows_of(path, manifest, ("boundary", "phase", "step", "positions")):
        for call in calls:
            told = set(call["positions"] or ()) if call["phase"] == "decode" else set()
            if told and told.isdisjoint({length + call["step"] for length in lengths}):
                wrong.append((call, told))
    if wrong and lengths:
        call, told = wrong[0]
        at = ", ".join(str(length + call["step"]) for length in sorted(lengths))
        yield (
            f"{len(wrong)} decode calls were at another position, first {call['boundary']} in step {call['step']}: "
            f"told {', '.join(map(str, sorted(told)))}, the reference's token is at {at}"
        )


def _of_other_tokens(columns: RecordColumns) -> list[Key]:
    """Decode calls whose embedding is far from the reference's, though it was right in prefill."""
    boundaries, codes = columns.coded("boundary")
    if _EMBED not in boundaries:
        return []
    is_far = (codes == boundaries.index(_EMBED)) & (columns.numbers["pcc"] < _SAME_TOKENS_PCC)
    far = [key for row in np.flatnonzero(is_far) if (key := columns.key(int(row))).mode == ACCUMULATED]
    return far if all(key.phase == "decode" for key in far) else []


def _call(entry: Skipped) -> tuple[str, str, int, int]:
    return entry.boundary, entry.phase, entry.step, entry.user


def _step(at: Key | Skipped) -> str:
    return at.phase if at.phase == "prefill" else f"decode {at.step}"
