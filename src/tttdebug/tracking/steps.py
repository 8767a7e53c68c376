# SPDX-License-Identifier: Apache-2.0
"""The steps of one comparison: each call of both sides, teacher-forced, its outputs compared, its tokens kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.errors import LayoutError
from tttdebug.tracking.agreement import TokenAgreement, summarise, token_agreement
from tttdebug.tracking.calls import Call, UserCall
from tttdebug.tracking.comparer import Comparer
from tttdebug.tracking.hooks import unrecorded
from tttdebug.tracking.layout import align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.spread import read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.truth import Truth
from tttdebug.tracking.writer import RunWriter

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, "float | None"], None]


class Steps:
    """The state of one comparison: both sides' caches, and the tokens so far."""

    def __init__(
        self, subject: Subject, truth: Truth, writer: RunWriter, progress: Progress, *, goes_on_alone: bool = True
    ) -> None:
        self.driver = subject.driver
        self.truth = truth
        self.goes_on_alone = goes_on_alone
        self.reference = subject.reference
        self.prompts = subject.texts
        self.writer = writer
        self.progress = progress
        self.comparer = Comparer(subject.port, subject.paired, subject.caches, writer)
        self.returned_logits = subject.returned_logits
        self.agreements: list[TokenAgreement] = []
        # per user: the token after the prompt, then one a decode step; the port's as far as its logits can be read
        self.reference_tokens: list[list[int]] = [[] for _ in self.prompts]
        self.port_tokens: list[list[int]] = [[] for _ in self.prompts]

    def run(self) -> None:
        """Every prompt through prefill and decode steps, those that the port holds at a time together."""
        prompts = self.prompts
        steps, groups = self.writer.manifest.decode_steps, self.driver.groups(len(prompts))
        for g, group in enumerate(groups):
            self.driver.start(len(group), max(len(prompts[user].token_ids) for user in group) + steps)
            for users in self.driver.prefills(group):
                row, tokens = group.index(users[0]), len(prompts[users[0]].token_ids)
                done = row / len(group) / (1 + steps)
                self.progress(f"prefill, {tokens} tokens", (g + done) / len(groups))
                self._prefill(users, row)
            for step in range(steps):
                self.progress(f"decode step {step + 1} of {steps}", (g + (1 + step) / (1 + steps)) / len(groups))
                self._decode(step, group)
            if self.goes_on_alone:
                self._go_on_alone(group)

    def conclude(self) -> None:
        """Write what the whole run says: token agreement by phase, and the text each side writes on its own."""
        agreement = {}
        for phase in ("prefill", "decode"):
            tokens = [token for token in self.agreements if token.phase == phase]
            if tokens:
                agreement[phase] = summarise(tokens)
        continuations = self._continuations() if self.goes_on_alone else ()
        self.writer.manifest = replace(self.writer.manifest, agreement=agreement, continuations=continuations)

    def _prefill(self, users: Sequence[int], first_row: int) -> None:
        """One prefill: of one prompt, or of several of one length."""
        parts, logits = {}, {}
        for row, user in enumerate(users, start=first_row):
            token_ids = self.prompts[user].token_ids
            told = self.truth.read(user)
            parts[user] = UserCall(token_ids, 0, told.activations, told.floors, row, told.adapters, told.draws)
            logits[user] = told.logits
        ids_BS = _tensor([self.prompts[user].token_ids for user in users])
        self._compare(Call("prefill", 0, parts), logits, partial(self.driver.prefill, ids_BS, first_row))

    def _decode(self, step: int, group: Sequence[int]) -> None:
        """One decode step of all users at once, driven by the reference's tokens."""
        users, logits = {}, {}
        for row, user in enumerate(group):
            token = self.reference_tokens[user][-1]
            told = self.truth.decode(token, user)
            start = len(self.prompts[user].token_ids) + step
            users[user] = UserCall((token,), start, told.activations, told.floors, row, told.adapters, told.draws)
            logits[user] = told.logits
        tokens, positions = ([part.token_ids[0] for part in users.values()], [part.start for part in users.values()])
        assert self.driver.decode is not None
        run_port = partial(self.driver.decode, _tensor(tokens), _tensor(positions))
        self._compare(Call("decode", step, users), logits, run_port)

    def _compare(self, call: Call, reference_logits: Mapping[int, torch.Tensor], run_port: Callable[[], Any]) -> None:
        """Run the port once under observation, and write down what both sides predict."""
        self.comparer.expect(call)
        started = time.perf_counter()
        returned = run_port()
        seconds = time.perf_counter() - started
        port_logits = self.comparer.on_returned(returned, seconds, compared=self.returned_logits)
        for user, part in call.users.items():
            self.reference_tokens[user].append(int(reference_logits[user][-1].argmax()))
            if port_logits is None:
                continue
            try:
                aligned = align(
                    reference_logits[user], port_logits, phase=call.phase, user=part.row, users=call.read_together
                )
            except LayoutError as error:
                if not self.returned_logits:  # else it is in the record of the logits
                    self.comparer.cannot_agree(user, error)
                continue
            skipped = len(part.token_ids) - aligned.port_TC.shape[0]  # of a prompt whose last logits alone were given
            agreements = token_agreement(
                aligned.reference_TC,
                aligned.port_TC,
                part.token_ids[skipped:],
                phase=call.phase,
                step=call.step,
                user=user,
                start=part.start + skipped,
            )
            self.writer.append_tokens([agreement.to_json(self._text_of) for agreement in agreements])
            self.agreements += agreements
            self.port_tokens[user].append(agreements[-1].port_top[0][0])
        self.comparer.settle()

    def _go_on_alone(self, group: Sequence[int]) -> None:
        """Where the port chose another token than the reference it goes on from its own choice, unobserved."""
        steps = self.writer.manifest.decode_steps
        if not all(self._complete(user) for user in group):
            return
        parted = [
            step
            for user in group
            for step in range(1 + steps)
            if self.reference_tokens[user][step] != self.port_tokens[user][step]
        ]
        import torch

        for step in range(min(parted), steps) if parted else ():
            self.progress("the port decodes on its own", None)
            assert self.driver.decode is not None
            positions = [len(self.prompts[user].token_ids) + step for user in group]
            tokens = [self.port_tokens[user][step] for user in group]
            with unrecorded():
                logits, _ = element_of(self.driver.decode(_tensor(tokens), _tensor(positions)), None, "port")
                values = read_output(logits)
            like = torch.zeros(1, self.reference.config.vocab_size)
            for row, user in enumerate(group):
                self.port_tokens[user][step + 1] = int(align(like, values, phase="decode", user=row).port_TC.argmax())

    def _complete(self, user: int) -> bool:
        """Whether the port's choice is known at every step."""
        return len(self.port_tokens[user]) == len(self.reference_tokens[user])

    def _continuations(self) -> tuple[dict[str, str], ...]:
        """The greedy text of either side."""
        users = [user for user in range(len(self.prompts)) if self._complete(user)]
        if len(users) < len(self.prompts):
            self.writer.note("the port's logits could not be read in every call: what it writes on its own is unknown")
        return tuple(
            {
                "prompt": self.prompts[user].text,
                "reference": self._text(self.reference_tokens[user]),
                "port": self._text(self.port_tokens[user]),
            }
            for user in users
        )

    def _text(self, token_ids: Sequence[int]) -> str:
        tokenizer = self.reference.tokenizer
        return " ".join(map(str, token_ids)) if tokenizer is None else str(tokenizer.decode(list(token_ids)))

    def _text_of(self, token_id: int) -> str:
        return self._text([token_id])


def _tensor(token_ids: Sequence[int] | Sequence[Sequence[int]]) -> torch.Tensor:
    import torch

    return torch.tensor(token_ids)
