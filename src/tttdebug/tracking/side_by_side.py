# SPDX-License-Identifier: Apache-2.0
"""Tracking a port beside its reference: prefill of every prompt, then teacher-forced decode, every boundary compared.

The reference goes first in each call and its own choice of tokens drives both sides, so that an error of the port is
seen where it arises and not as a different text. In between runs the floor: the reference in the port's formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.backends import describe_device, to_torch
from tttdebug.errors import PairingError, PromptError
from tttdebug.tracking.agreement import TokenAgreement, summarise, token_agreement
from tttdebug.tracking.comparer import Call, Comparer, UserCall
from tttdebug.tracking.encoders import track_encoder
from tttdebug.tracking.floor import FloorError
from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.layout import align
from tttdebug.tracking.op_tracking import OpTracker, ops_recorded
from tttdebug.tracking.opening import floor_of, floors_of, manifest_of
from tttdebug.tracking.pairing import CachePair, Pair, PairedModules, pair_modules, pairs_from_mapping
from tttdebug.tracking.prompts import Input, Prompt, read_prompt
from tttdebug.tracking.run import Run
from tttdebug.tracking.sides import TorchSide
from tttdebug.tracking.writer import DEFAULT_TENSOR_BUDGET, RunWriter, SaveTensors

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference

Progress = Callable[[str, "float | None"], None]


def track(
    port: Any,
    reference: Reference,
    prompts: Sequence[Input],
    decode_steps: int = 0,
    *,
    pairs: Sequence[Pair] | Mapping[str, tuple[str, str]] | None = None,
    out: str | Path | None = None,
    save_tensors: SaveTensors = "failed",
    tensor_budget: int = DEFAULT_TENSOR_BUDGET,
    ops: bool = False,
    command: str = "",
    seed: int | None = None,
    progress: Progress = lambda message, fraction: None,
) -> Run:
    """Compare every paired module of `port` with its counterpart in `reference`, and give the run.

    `port` offers `allocate_cache(users, length)`, `prefill(token_ids, user)` and `decode(token_ids, positions)` as
    CausalLM does, and `pairs` unless they are given here. With `out` the run is written to that folder as it happens,
    else to a temporary one that lasts as long as the run object; `Run.save` keeps it.

    A prompt is text or token ids. A port with `encode(inputs)` instead is an encoder: each prompt, which may be an
    image [C, H, W] or an `Image` too, goes once through it, and there is nothing to decode.

    With `ops` every ttnn op inside a paired module is recorded too, with its own error against a golden: `Run.ops`.

    Raises PromptError, PairingError or RunError before anything runs. An exception of the port itself is passed on
    unchanged, after the run up to there has been closed so that it loads.
    """
    chosen = pairs_from_mapping(pairs) if isinstance(pairs, Mapping) else pairs or getattr(port, "pairs", None)
    if not chosen:
        raise PairingError(
            f"{type(port).__name__} declares no pairs; give pairs={{boundary: (port path, reference path)}}"
        )
    if hasattr(port, "encode"):
        if decode_steps:
            raise PromptError(f"{type(port).__name__} is an encoder and decodes nothing: give decode_steps=0")
        return track_encoder(
            port,
            reference,
            prompts,
            chosen,
            out=out,
            save_tensors=save_tensors,
            tensor_budget=tensor_budget,
            ops=ops,
            command=command,
            seed=seed,
            progress=progress,
        )
    read = [read_prompt(reference, prompt, decode_steps) for prompt in prompts]
    paired = pair_modules(port, reference.model, chosen)
    caches = tuple(getattr(port, "caches", ()))
    comparisons = (len(paired) + len(caches)) * len(read) * (1 + decode_steps)
    writer = RunWriter(
        None if out is None else Path(out),
        manifest_of(
            port,
            reference,
            [{"text": prompt.text, "tokens": len(prompt.token_ids)} for prompt in read],
            decode_steps=decode_steps,
            expected=comparisons,
            command=command,
            seed=seed,
        ),
        save_tensors=save_tensors,
        tensor_budget=tensor_budget,
    )
    tracking = _Tracking(port, reference, paired, caches, writer, progress)
    try:
        tap = PortTap({modules.pair.boundary: modules.port for modules in paired}, tracking.comparer.on_output)
        tracker = OpTracker(writer, lambda: tracking.comparer.call) if ops else None
        with tap, ops_recorded(tracker, port.device, tap):
            tracking.prefill(read)
            for step in range(decode_steps):
                tracking.decode(step)
        tracking.conclude()
    except BaseException as error:
        writer.fail(error)
        raise
    return writer.finish()


class _Tracking:
    """The state of one comparison: both sides' caches, and the tokens so far."""

    def __init__(
        self,
        port: Any,
        reference: Reference,
        paired: Sequence[PairedModules],
        caches: Sequence[CachePair],
        writer: RunWriter,
        progress: Progress,
    ) -> None:
        self.port = port
        self.reference = reference
        self.writer = writer
        self.progress = progress
        self.truth = TorchSide(reference.model, {pair.pair.boundary: pair.reference for pair in paired}, caches)
        self.floor = TorchSide(*floor_of(port, reference, paired), caches)
        self.comparer = Comparer(port, paired, caches, writer, describe_device(port.device).engine)
        self.agreements: list[TokenAgreement] = []
        self.prompts: Sequence[Prompt] = ()
        self.prompt_floors: list[dict[str, FloorError]] = []  # by user
        self.reference_tokens: list[list[int]] = []  # per user: the token after the prompt, then one a decode step
        self.port_tokens: list[list[int]] = []

    def prefill(self, prompts: Sequence[Prompt]) -> None:
        """Every prompt, one after the other, each as a user of its own."""
        self.prompts = prompts
        decode_steps = self.writer.manifest.decode_steps
        self.port.allocate_cache(len(prompts), max(len(prompt.token_ids) for prompt in prompts) + decode_steps)
        self.reference_tokens, self.port_tokens = [[] for _ in prompts], [[] for _ in prompts]
        for user, prompt in enumerate(prompts):
            self.progress(f"prefill, {len(prompt.token_ids)} tokens", user / len(prompts) / (1 + decode_steps))
            truth = self.truth.prefill(prompt.token_ids, user)
            floors = floors_of(self.floor.prefill(prompt.token_ids, user).activations, truth.activations)
            self.prompt_floors.append(floors)
            pooled = {boundary: floor.of_prompt(len(prompt.token_ids)) for boundary, floor in floors.items()}
            call = Call("prefill", 0, {user: UserCall(prompt.token_ids, 0, truth.activations, pooled)})
            self._compare(call, {user: truth.logits_TV}, partial(self.port.prefill, _tensor(prompt.token_ids), user))

    def decode(self, step: int) -> None:
        """One decode step of all users at once, driven by the reference's tokens."""
        decode_steps = self.writer.manifest.decode_steps
        self.progress(f"decode step {step + 1} of {decode_steps}", (1 + step) / (1 + decode_steps))
        users, logits = {}, {}
        for user, prompt in enumerate(self.prompts):
            token = self.reference_tokens[user][-1]
            truth = self.truth.decode(token, user)
            # one token is a sample of one and may by luck be nearly free of error, so the prompt's tokens have a say
            floors = {
                boundary: max(floor.rel_l2, self.prompt_floors[user][boundary].token_rel_l2)
                for boundary, floor in floors_of(self.floor.decode(token, user).activations, truth.activations).items()
            }
            users[user] = UserCall((token,), len(prompt.token_ids) + step, truth.activations, floors)
            logits[user] = truth.logits_TV
        tokens, positions = ([part.token_ids[0] for part in users.values()], [part.start for part in users.values()])
        run_port = partial(self.port.decode, _tensor(tokens), _tensor(positions))
        self._compare(Call("decode", step, users), logits, run_port)

    def conclude(self) -> None:
        """Write what the whole run says: token agreement by phase, and the text each side writes on its own."""
        agreement = {}
        for phase in ("prefill", "decode"):
            tokens = [token for token in self.agreements if token.phase == phase]
            if tokens:
                agreement[phase] = summarise(tokens)
        self.writer.manifest = replace(self.writer.manifest, agreement=agreement, continuations=self._continuations())

    def _compare(self, call: Call, reference_logits: Mapping[int, torch.Tensor], run_port: Callable[[], Any]) -> None:
        """Run the port once under observation, and write down what both sides predict."""
        self.comparer.expect(call)
        port_logits = to_torch(run_port())
        self.comparer.settle()
        for user, part in call.users.items():
            aligned = align(reference_logits[user], port_logits, phase=call.phase, user=user)
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
            self.reference_tokens[user].append(agreements[-1].reference_top[0][0])
            self.port_tokens[user].append(agreements[-1].port_top[0][0])

    def _continuations(self) -> tuple[dict[str, str], ...]:
        """The greedy text of either side. Where the port chose another token it goes on from its own choice."""
        parted = [
            step
            for reference, port in zip(self.reference_tokens, self.port_tokens, strict=True)
            for step in range(len(port))
            if reference[step] != port[step]
        ]
        for step in range(min(parted), self.writer.manifest.decode_steps) if parted else ():
            self.progress("the port decodes on its own", 1.0)
            positions = [len(prompt.token_ids) + step for prompt in self.prompts]
            logits = to_torch(
                self.port.decode(_tensor([tokens[step] for tokens in self.port_tokens]), _tensor(positions))
            )
            rows = logits.reshape(-1, logits.shape[-1])
            for user, tokens in enumerate(self.port_tokens):
                tokens[step + 1] = int(rows[user].argmax())
        return tuple(
            {"prompt": prompt.text, "reference": self._text(reference), "port": self._text(port)}
            for prompt, reference, port in zip(self.prompts, self.reference_tokens, self.port_tokens, strict=True)
        )

    def _text(self, token_ids: Sequence[int]) -> str:
        tokenizer = self.reference.tokenizer
        return " ".join(map(str, token_ids)) if tokenizer is None else str(tokenizer.decode(list(token_ids)))

    def _text_of(self, token_id: int) -> str:
        return self._text([token_id])


def _tensor(token_ids: Sequence[int]) -> torch.Tensor:
    import torch

    return torch.tensor(list(token_ids))
