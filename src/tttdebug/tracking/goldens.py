# SPDX-License-Identifier: Apache-2.0
"""The reference's calls of a run: out of goldens where there are some, else made, and kept for the next run.

Where a golden is used the reference does not run at all; what is compared is the same bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from loguru import logger

from tttdebug.errors import GoldenError
from tttdebug.references.golden_cache import GoldenCache, PendingGolden
from tttdebug.references.golden_entry import Golden, GoldenCall
from tttdebug.references.golden_key import GoldenKey, Tapped, golden_keys
from tttdebug.tracking.sides import Forward

if TYPE_CHECKING:
    from tttdebug.tracking.subject import Subject


@dataclass
class _Prompt:
    """Where the calls of one prompt come from, or go to, and how many were made."""

    key: GoldenKey
    golden: Golden | None = None
    pending: PendingGolden | None = None
    made: int = 0


@dataclass
class Goldens:
    """The goldens of one run, one for each prompt; none where the run uses none.

    `refused` says of goldens that were given why they are not used, `misses` of prompts how the nearest golden of the
    cache differs.
    """

    calls: int = 0  # of a prompt: its prefill and its decode steps
    cache: GoldenCache | None = None
    prompts: list[_Prompt] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    temporary: TemporaryDirectory[str] | None = None

    def forward(self, user: int, token_ids: Sequence[int], run: Callable[[], Forward]) -> Forward:
        """The next call of a prompt, which reads these tokens; `run` makes it where no golden has it."""
        if not self.prompts:
            return run()
        prompt = self.prompts[user]
        prompt.made += 1
        if prompt.golden is not None:
            return _as_forward(prompt.golden, prompt.made - 1, token_ids)
        made = run()
        if prompt.pending is not None:
            self._keep(user, made, token_ids)
        return made

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of them; nothing where the run uses none."""
        if not self.prompts or self.temporary is not None:
            return {}
        return {
            "keys": [prompt.key.digest for prompt in self.prompts],
            "used": [user for user, prompt in enumerate(self.prompts) if prompt.golden is not None],
            "misses": list(self.misses),
            "refused": list(self.refused),
        }

    @property
    def lacking(self) -> list[int]:
        """The prompts that have no golden."""
        return [user for user, prompt in enumerate(self.prompts) if prompt.golden is None]

    def write(self, user: int, made: Forward, token_ids: Sequence[int]) -> None:
        """Write the next call of a prompt that has no golden. Raises OSError."""
        prompt = self.prompts[user]
        assert self.cache is not None
        if prompt.pending is None:
            prompt.pending = self.cache.begin(prompt.key)
        prompt.pending.writer.append(GoldenCall(tuple(token_ids), made.activations, made.logits_TV, made.adapters))

    def settle(self, user: int) -> None:
        """From here on the calls of a prompt come out of what was written of it. Raises OSError."""
        prompt = self.prompts[user]
        assert prompt.pending is not None
        assert self.cache is not None
        prompt.pending.writer.close()
        prompt.golden = Golden.open(prompt.pending.writer.folder)  # its files stay open wherever they go
        self.cache.publish(prompt.pending)
        prompt.pending = None

    def begin(self) -> None:
        """Begin to write a golden of each prompt that has none. Where the cache cannot be written, it is said once."""
        if self.cache is None:
            return
        try:
            for prompt in self.prompts:
                if prompt.golden is None:
                    prompt.pending = self.cache.begin(prompt.key)
        except OSError as error:
            self._give_up_all(error)

    def close(self) -> None:
        """Leave nothing of goldens that did not come to their end, and of a cache that was for this run only."""
        for prompt in self.prompts:
            self._discard(prompt)
        if self.temporary is not None:
            self.temporary.cleanup()

    def _keep(self, user: int, made: Forward, token_ids: Sequence[int]) -> None:
        """Write a call down. Where that cannot be done the run goes on, and keeps nothing."""
        prompt = self.prompts[user]
        assert prompt.pending is not None
        assert self.cache is not None
        try:
            self.write(user, made, token_ids)
            if prompt.pending.writer.bytes > self.cache.limit:
                logger.warning(
                    "golden cache: what the reference gave for one prompt takes more than the limit of {:,} bytes, so "
                    "it is not kept; raise TTTDEBUG_CACHE_LIMIT",
                    self.cache.limit,
                )
                self._discard(prompt)
            elif prompt.pending.writer.calls == self.calls:
                prompt.pending.writer.close()
                self.cache.publish(prompt.pending)
                prompt.pending = None
        except OSError as error:
            self._give_up_all(error)

    def _give_up_all(self, error: OSError) -> None:
        assert self.cache is not None
        logger.warning(
            "golden cache: cannot write {} ({}), so nothing of this run's reference is kept; set TTTDEBUG_CACHE to a "
            "folder that can be written, or give --no-golden-cache",
            self.cache.folder,
            error.strerror or error,
        )
        self.close()

    def _discard(self, prompt: _Prompt) -> None:
        pending, prompt.pending = prompt.pending, None
        if pending is None or self.cache is None:
            return
        try:
            self.cache.discard(pending)
        except OSError as error:
            logger.warning("golden cache: cannot remove {} ({})", pending.writer.folder, error.strerror or error)


def goldens_of(subject: Subject, cache: GoldenCache | None, given: Sequence[Path] = ()) -> Goldens:
    """The goldens that a run can use, out of those `given` and those of the cache.

    One that was given and is damaged, or is of anything else than what this run compares, is refused.
    """
    if cache is not None and cache.limit == 0:
        cache = None
    temporary = None
    if cache is None and subject.reference.stream is not None and not subject.encodes:
        temporary = TemporaryDirectory(prefix="tttdebug-goldens-")
        cache = GoldenCache(Path(temporary.name), limit=sys.maxsize)
    if cache is None and not given:
        return Goldens()
    inputs = [prompt.inputs for prompt in subject.prompts]
    keys = golden_keys(subject.reference, inputs, subject.decode_steps, _tapped(subject))
    goldens = Goldens(1 + subject.decode_steps, cache, temporary=temporary)
    brought = _of_given(given, keys, goldens.refused)
    for key in keys:
        golden = brought.get(key.digest)
        if golden is None and cache is not None:
            golden = cache.find(key)
        if golden is None and cache is not None and (difference := cache.nearest_difference(key)):
            goldens.misses.append(difference)
            logger.info("golden cache: the nearest golden of this prompt is of another {}", difference)
        goldens.prompts.append(_Prompt(key, golden))
    return goldens


def _of_given(given: Sequence[Path], keys: Sequence[GoldenKey], refused: list[str]) -> Mapping[str, Golden]:
    """The goldens that were given by the digests of their keys; why others are refused goes into `refused`."""
    found = {}
    for folder in given:
        try:
            golden = Golden.open(folder)
        except GoldenError as error:
            refused.append(str(error))
            continue
        theirs = golden.head.key
        nearest = min(keys, key=lambda key: len(theirs.differing(key)))
        if theirs.differing(nearest):
            refused.append(f"{folder} is of another {theirs.against(nearest)}")
        else:
            found[theirs.digest] = golden
    for reason in refused:
        logger.warning("the golden that was given is not used, the reference runs: {}", reason)
    return found


def _tapped(subject: Subject) -> Tapped:
    return Tapped(
        modules=[
            (pair.boundary, pair.reference, pair.layout.reference_element)
            for pair in (modules.pair for modules in subject.paired)
        ],
        caches=[(pair.boundary, pair.layer, pair.part) for pair in subject.caches],
    )


def _as_forward(golden: Golden, number: int, token_ids: Sequence[int]) -> Forward:
    call = golden.call(number)
    if call.token_ids != tuple(token_ids):
        raise GoldenError(
            f"{golden.head.folder} read other tokens in call {number} than this run: {call.token_ids[:8]} there, "
            f"{tuple(token_ids)[:8]} now; remove it"
        )
    return Forward(call.logits_TV, call.activations, call.adapters)
