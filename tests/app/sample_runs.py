# SPDX-License-Identifier: Apache-2.0
"""Runs to look at: a small Llama-like model beside a sound or a broken port; runs cut short, damaged, or hostile."""

# T tokens, C channels

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tttdebug.analysis.finding import Candidate, Experiment, Finding, Fix
from tttdebug.modules import HardwareConfig
from tttdebug.tracking.agreement import TokenAgreement, summarise, token_agreement
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.floor import floor_error
from tttdebug.tracking.gates import default_gate, judge
from tttdebug.tracking.manifest import Manifest, Skipped
from tttdebug.tracking.op_record import COMPARED, OpRecord
from tttdebug.tracking.record import Key, Record, metrics_of, without_metrics
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import INHERITED, ISOLATED, MANIFEST, RECORDS, Run
from tttdebug.tracking.writer import RunWriter, SaveTensors

LAYERS, CHANNELS, VOCABULARY, PROMPT_TOKENS, DECODE_STEPS = 6, 96, 512, 64, 2
FAULTY = "L03.mlp"
BROKEN, SOUND = "llama_nov22_140509", "llama_nov22_120000"
WIRING = "h = x + self_attn(input_norm(x)); h + mlp(post_attn_norm(h))"
MARKUP = (
    "<img src=x onerror=alert(1)>",
    ":material_home: **bold** [x](javascript:alert(1)) $x^2$",
    "`tick`` :red[x] :smile: <b>b</b>",
)
PROMPT = "The port runs beside its reference, and every module says how far it is from it."


@dataclass(frozen=True)
class Pair:
    """What both sides give at one boundary, and the error that the port's number formats must cause there."""

    boundary: str
    reference_TC: torch.Tensor
    port_TC: torch.Tensor
    floor_rel_l2: float = 0.005


class Model:
    """Random weights. A port has the noise of its formats, coarse in the mlps, and permutes a faulty output."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.weights = {
            (layer, kind): self._normal(CHANNELS, CHANNELS) / math.sqrt(CHANNELS)
            for layer in range(LAYERS)
            for kind in ("self_attn", "mlp")
        }
        self.head = self._normal(CHANNELS, VOCABULARY) / math.sqrt(CHANNELS)

    def call(self, tokens: int, faulty: str | None) -> list[Pair]:
        """Every boundary of one call, in the order of execution."""
        x_TC = self._normal(tokens, CHANNELS)
        x_TC[:, 7] *= 20  # an outlier channel, as trained models have
        reference = self.forward(x_TC, noise=0.0)
        floor = self.forward(x_TC, noise=0.003)
        port = self.forward(x_TC, noise=0.003, faulty=faulty)
        return [
            Pair(
                boundary, reference[boundary], port[boundary], floor_error(reference[boundary], floor[boundary]).rel_l2
            )
            for boundary in reference
        ]

    def forward(self, x_TC: torch.Tensor, noise: float, faulty: str | None = None) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = {}

        def emit(boundary: str, out_TC: torch.Tensor, noise: float = noise) -> torch.Tensor:
            out_TC = out_TC * (1 + noise * self._normal(*out_TC.shape))
            outputs[boundary] = out_TC.roll(3, dims=-1) if boundary == faulty else out_TC
            return outputs[boundary]

        x_TC = emit("embed", x_TC)
        for layer in range(LAYERS):
            for norm, branch, coarseness in (("input_norm", "self_attn", 1), ("post_attn_norm", "mlp", 60)):
                normed_TC = emit(f"L{layer:02d}.{norm}", _norm(x_TC))
                out_TC = torch.tanh(normed_TC @ self.weights[layer, branch])
                x_TC = x_TC + emit(f"L{layer:02d}.{branch}", out_TC, noise * coarseness)
            emit(f"L{layer:02d}.layer_out", x_TC, 0.0)
        x_TC = emit("final_norm", _norm(x_TC))
        emit("logits", 3 * x_TC @ self.head)
        return outputs

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random)


def write_run(folder: Path, *, faulty: str | None = FAULTY, model: str = "llama", users: int = 1) -> Run:
    """A finished run: prefill of 64 tokens and two decode steps."""
    writer = open_writer(folder, model, users=users)
    agreements = add_calls(writer, faulty, users=users)
    return finish(writer, agreements, diverged=faulty is not None)


def write_explained_run(folder: Path, *, faulty: str | None = FAULTY) -> Run:
    """A run with what `tttdebug explain` adds: every module alone, what it inherits, and a finding if it is broken."""
    run = write_run(folder, faulty=faulty)
    reopened = ReopenedRun(run)
    verdicts: dict[Key, str] = {}
    for record in run.records:
        at_fault = record.boundary == faulty
        error = record.rel_l2 if at_fault else 1.02 * record.floor_rel_l2
        alone = replace(record, mode=ISOLATED, verdict="ok", rel_l2=error, pcc=1 - error**2 / 2, note="")
        reopened.append(alone)
        passed_on = replace(alone, mode=INHERITED, floor_rel_l2=math.nan, seconds=math.nan, input_rel_l2=record.rel_l2)
        reopened.append(passed_on)
        if at_fault:
            verdicts |= {record.key: "injected", alone.key: "injected"}
        elif record.failed:
            verdicts[record.key] = "inherited"
    found = [finding(faulty, [key for key in verdicts if key.mode == ISOLATED])] if faulty else []
    return reopened.finish(verdicts, [one.to_json() for one in found], [])


def finding(boundary: str, records: list[Key], text: str = "the output's channels are rolled by 3") -> Finding:
    """A confirmed finding whose texts are `text`."""
    return Finding(
        boundary,
        "channels_permuted",
        text,
        module="layers.3.feed_forward",
        reference_path="model.layers.3.mlp",
        experiments=(Experiment(text, 1.41, 0.183, 0.18), Experiment(f"{text}, in decode", 1.39, 0.186, math.nan)),
        fix=Fix(text, code="out = ttnn.roll(out, -3, -1)", settings={"precision_cfg": {"FF2": "BF16"}}),
        where=(text,),
        candidates=(Candidate("scaled", text, 0.97),),
        records=tuple(records),
        share=0.97,
    )


def write_run_with_ops(folder: Path) -> Run:
    """A prefill in which the ops of one mlp were recorded."""
    writer = open_writer(folder, "llama")
    writer.open_ops()
    for pair in Model().call(PROMPT_TOKENS, faulty=None):
        add_pair(writer, pair, "prefill", 0, 0)
    for index, (op, error) in enumerate((("ttnn.linear", 0.01), ("ttnn.gelu", 0.02))):
        metrics = (COMPARED, error, 0.9999, 0.1, 1.0, error / 2, 0, 0, "ttnn")
        call = ("prefill", 0, 0)
        writer.append_op(OpRecord("L01.mlp", index, op, *metrics, *call, (), (), {}, "", "", "", "fast", 0.001))
    return writer.finish()


def write_unfinished_run(folder: Path) -> None:
    """What a killed process leaves: half of the prefill, and a torn last line."""
    writer = open_writer(folder, "llama")
    for index, pair in enumerate(Model().call(PROMPT_TOKENS, faulty=None)):
        if index < 14:
            add_pair(writer, pair, "prefill", 0, 0)
    with (folder / RECORDS).open("a", encoding="utf-8") as file:
        file.write('{"boundary": "L03.self_')


def save_damaged(run: Run, folder: Path) -> None:
    """A copy whose third record is no JSON."""
    run.save(folder)
    lines = (folder / RECORDS).read_text(encoding="utf-8").splitlines(keepends=True)
    lines[2] = lines[2][:40] + "\n"
    (folder / RECORDS).write_text("".join(lines), encoding="utf-8")


def save_as_of_newer_schema(run: Run, folder: Path) -> None:
    run.save(folder)
    manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(manifest.replace('"schema": 1', '"schema": 99'), encoding="utf-8")


def write_hostile_run(folder: Path, texts: tuple[str, ...]) -> None:
    """A run whose names, prompts, tokens and notes are markup."""
    writer = open_writer(folder, texts[0], save_tensors="none")
    reference = torch.randn((4, 32), generator=torch.Generator().manual_seed(0))
    for number, text in enumerate(texts):
        add_pair(writer, Pair(f"L{number:02d}.{text}", reference, -reference), "prefill", 0, 0)
    agreed = token_agreement(reference, -reference, range(4), phase="prefill", step=0, user=0, start=0)
    writer.append_tokens([token.to_json(lambda token_id: texts[token_id % len(texts)]) for token in agreed])
    writer.note(texts[0])
    writer.manifest = replace(
        writer.manifest,
        continuations=tuple({"prompt": text, "reference": text, "port": text + "!"} for text in texts),
        skipped=tuple(Skipped(text, "prefill", 0, 0, text) for text in texts),
    )
    writer.finish()


def write_run_with_the_incomparable(folder: Path) -> None:
    """One boundary is NaN in the port, one has another shape, one is bit-equal."""
    writer = open_writer(folder, "llama")
    for pair in Model().call(PROMPT_TOKENS, faulty=None):
        if pair.boundary == "L01.mlp":
            pair.port_TC[3, 5] = math.nan
        if pair.boundary == "L02.self_attn":
            mismatch = without_metrics((PROMPT_TOKENS, 2 * CHANNELS))
            note = "the port gives 128 channels where the reference gives 96"
            writer.append(
                Record(**about(pair, "prefill", 0, 0), **mismatch, verdict="shape_mismatch", adapters=(), note=note)
            )
            continue
        if pair.boundary == "embed":
            pair = replace(pair, port_TC=pair.reference_TC)
        add_pair(writer, pair, "prefill", 0, 0)
    writer.finish()


def open_writer(folder: Path, model: str, users: int = 1, save_tensors: SaveTensors = "failed") -> RunWriter:
    boundaries = LAYERS * 5 + 3
    prompt = {"text": PROMPT, "tokens": PROMPT_TOKENS}
    return RunWriter(
        folder,
        Manifest(
            created="2026-11-22T14:05:09+00:00",
            model={
                "name": model,
                "source": "random weights",
                "weights_digest": "0" * 16,
                "layers": LAYERS,
                "wiring": WIRING,
            },
            device={"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]},
            precision="accuracy",
            prompts=(prompt,) * users,
            decode_steps=DECODE_STEPS,
            command=f"tttdebug run --model {model} --precision accuracy --decode-steps {DECODE_STEPS}",
            seed=0,
            hardware=HardwareConfig(layers=((5, HardwareConfig.preset("performance")),)).to_dict(),
            job={"model": model, "precision": "accuracy", "decode_steps": DECODE_STEPS},
            expected=boundaries * (1 + DECODE_STEPS) * users,
        ),
        save_tensors=save_tensors,
    )


def add_calls(writer: RunWriter, faulty: str | None, users: int) -> list[TokenAgreement]:
    words = PROMPT.split()
    model, agreements = Model(), list[TokenAgreement]()
    for user in range(users):
        for phase, step, tokens in [
            ("prefill", 0, PROMPT_TOKENS),
            *(("decode", step, 1) for step in range(DECODE_STEPS)),
        ]:
            for pair in model.call(tokens, faulty):
                add_pair(writer, pair, phase, step, user)
            start = 0 if phase == "prefill" else PROMPT_TOKENS + step
            agreed = token_agreement(
                pair.reference_TC,
                pair.port_TC,
                range(start, start + tokens),
                phase=phase,
                step=step,
                user=user,
                start=start,
            )
            writer.append_tokens([token.to_json(lambda token_id: words[token_id % len(words)]) for token in agreed])
            agreements += agreed
    return agreements


def add_pair(writer: RunWriter, pair: Pair, phase: str, step: int, user: int) -> None:
    comparison = compare(pair.reference_TC, pair.port_TC)
    facts = about(pair, phase, step, user)
    judgement = judge(comparison, default_gate(pair.boundary, phase), pair.floor_rel_l2)
    note = "; ".join((*judgement.missed, *filter(None, [comparison.note])))
    record = Record(
        **facts, **metrics_of(comparison), verdict=judgement.verdict, adapters=("unpad_tokens 64→64",), note=note
    )
    writer.append(record, comparison.profile)
    writer.offer_tensors(record, pair.reference_TC, pair.port_TC)


def about(pair: Pair, phase: str, step: int, user: int) -> dict[str, object]:
    path = path_of(pair.boundary)
    return {
        "boundary": pair.boundary,
        "mode": "accumulated",
        "phase": phase,
        "step": step,
        "user": user,
        "floor_rel_l2": pair.floor_rel_l2,
        "module": path,
        "reference_path": f"model.{path}",
        "dtype": "bfloat16",
        "engine": "fast",
        "seconds": 0.0042,
    }


def path_of(boundary: str) -> str:
    """Where the module of a boundary lies: a layer holds its parts."""
    layer, _, kind = boundary.rpartition(".")
    if not layer:
        return boundary
    path = f"layers.{int(layer[1:])}"
    return path if kind == "layer_out" else f"{path}.{kind}"


def finish(writer: RunWriter, agreements: list[TokenAgreement], diverged: bool) -> Run:
    summaries = {
        phase: summarise([token for token in agreements if token.phase == phase]) for phase in ("prefill", "decode")
    }
    reference = " and names the first module that does not follow it."
    port = " and names the the the the the the" if diverged else reference
    writer.manifest = replace(
        writer.manifest,
        agreement=summaries,
        continuations=({"prompt": PROMPT, "reference": reference, "port": port},),
    )
    return writer.finish()


def _norm(x_TC: torch.Tensor) -> torch.Tensor:
    return x_TC * torch.rsqrt(x_TC.square().mean(-1, keepdim=True) + 1e-5)
