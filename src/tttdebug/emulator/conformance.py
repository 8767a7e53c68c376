# SPDX-License-Identifier: Apache-2.0
"""Every recording of a folder replayed on every engine, and compared with what the chip gave.

`replay_folder` gives a `CaseResult` a case and engine; `judge` of `conformance_results` makes verdicts of them.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttdebug.emulator import ttnn
from tttdebug.emulator.agreement import compare
from tttdebug.emulator.conformance_results import CaseResult, NotRun
from tttdebug.emulator.conformance_targets import LLAMA, MATMUL_FP32, TARGETS, family_of, gives_fp32
from tttdebug.emulator.device import Device, open_device
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.llama_chain import PRECISIONS, LlamaChain
from tttdebug.emulator.recordings import (
    RECORDED_GRID,
    Recording,
    as_torch,
    call,
    families,
    load_recordings,
    values_of,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

Progress = Callable[[str, float | None], None]
_FEW, _MOST = 16, 0.5  # so few values that hold more than this share of an error decide it alone
_FP32_OUTPUT = "its fp32 output shows every bit of a sum that fast takes in torch's order"


def replay_folder(
    folder: Path, engines: Sequence[str], llama: Callable[[], LlamaForCausalLM], progress: Progress
) -> tuple[list[CaseResult], list[NotRun]]:
    """Every recording of a folder on every engine, and what could not be tried.

    `llama` loads the model of the whole chains, and is called only when there are some; an EmulatorError that it
    raises leaves them untried. Raises EmulatorError when the folder holds no recordings.
    """
    chains = sorted(path for path in folder.glob("llama_*.npz") if _CHAIN.fullmatch(path.name))
    names = families(folder)
    if not names and not chains:
        raise EmulatorError(f"{folder}: no recordings (pairs of NAME.json and NAME.npz, or llama_*.npz) to replay")
    devices = _Devices(engines)
    results: list[CaseResult] = []
    for i, name in enumerate(names):
        progress(f"replay {name}", i / (len(names) + len(chains)))
        for recording in load_recordings(folder, name):
            results += [replay_case(recording, engine, devices) for engine in engines]
    not_run: list[NotRun] = []
    for i, path in enumerate(chains):
        progress(f"replay {path.stem}", (len(names) + i) / (len(names) + len(chains)))
        try:
            results += [result for engine in engines for result in replay_chain(path, engine, devices, llama)]
        except EmulatorError as error:
            not_run.append(NotRun(LLAMA, f"{path.name}: {error}"))
    if not results and not not_run:
        raise EmulatorError(f"{folder}: its families {', '.join(names)} have no cases to replay")
    return results, not_run


class _Devices:
    """The emulated devices of the recorded chip, an engine and architecture each, opened when first asked for."""

    def __init__(self, engines: Sequence[str]) -> None:
        self._open: dict[tuple[str, str], Device] = {(e, "wormhole_b0"): self._new(e, "wormhole_b0") for e in engines}

    def get(self, engine: str, arch: str) -> Device:
        if (engine, arch) not in self._open:
            self._open[engine, arch] = self._new(engine, arch)
        return self._open[engine, arch]

    @staticmethod
    def _new(engine: str, arch: str) -> Device:
        return open_device(engine, arch, grid=RECORDED_GRID)


# What a call that the emulator does not foresee may end in; it is listed with its kind, and its family does not hold.
_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)


def replay_case(recording: Recording, engine: str, devices: _Devices) -> CaseResult:
    """One recording on one engine."""
    family = family_of(recording)
    agreement, reason = None, ""
    try:
        output = call(recording, devices.get(engine, recording.arch))
        agreement = compare(values_of(output, recording), recording.output, output.dtype.format)
    except EmulatorError as error:
        reason = f"not covered: {error}"
    except _FAULTS as error:
        reason = f"failed: {type(error).__name__}: {error}"
    beyond = _FP32_OUTPUT if engine == "fast" and family == MATMUL_FP32 and gives_fp32(recording) else ""
    return CaseResult(
        engine, family, recording.family, recording.name, recording.op, agreement, reason=reason, unreachable=beyond
    )


_CHAIN = re.compile(r"llama_(\w+)_S(\d+)_L(\d+)\.npz")


def replay_chain(
    path: Path, engine: str, devices: _Devices, llama: Callable[[], LlamaForCausalLM]
) -> Iterator[CaseResult]:
    """Every recorded boundary of a whole Llama on one engine.

    Raises EmulatorError when the prompt or the weights are missing, or the precision is not known.
    """
    match = _CHAIN.fullmatch(path.name)
    if match is None or match[1] not in PRECISIONS:
        raise EmulatorError(f"no such precision; known are {', '.join(PRECISIONS)}")
    precision, length, layers = match[1], int(match[2]), int(match[3])
    ids = _prompt(path.parent / "llama_prompt.json", length)
    model, recorded = llama(), _arrays(path)
    if layers > model.config.num_hidden_layers:
        raise EmulatorError(f"{layers} layers are recorded; the model has {model.config.num_hidden_layers}")
    reference = _reference(path.parent / f"llama_reference_S{length}.npz")
    if layers == model.config.num_hidden_layers:
        with torch.inference_mode():
            reference["logits"] = model(torch.tensor([ids])).logits[0]
    emulated: dict[str, Tensor] = {}

    def keep(name: str, x: ttnn.Tensor) -> None:
        if name in recorded or f"{name}_last_token" in recorded:
            emulated[name] = ttnn.to_torch(x)[0, 0]

    LlamaChain(model, devices.get(engine, "wormhole_b0"), PRECISIONS[precision], layers).prefill(ids, keep)
    for boundary, real in recorded.items():
        ours, truth = (_boundary(values, boundary, real) for values in (emulated, reference))
        if ours is None:
            yield CaseResult(engine, LLAMA, path.stem, boundary, "chain", None, reason="not covered: no such boundary")
            continue
        ratio, reason, beyond = None, "no reference is recorded here", ""
        if truth is not None:
            ratio, reason = _ratio(_off(ours, truth), _off(real, truth)), ""
            beyond = _few_values_decide(engine, _off(ours, truth), _off(real, truth))
        yield CaseResult(engine, LLAMA, path.stem, boundary, "chain", compare(ours, real), ratio, reason, beyond)


def _off(x: Tensor, truth: Tensor) -> Tensor:
    return (x.double() - truth.double()).flatten()


def _ratio(ours: Tensor, real: Tensor) -> float:
    """The norm of one error over that of another."""
    size = real.norm().item()
    return ours.norm().item() / size if size else 1.0 if not ours.any() else math.inf


def _few_values_decide(engine: str, ours: Tensor, real: Tensor) -> str:
    """Why an engine cannot reach the target for the ratio of errors: a massive activation is one of few values whose
    last bits make up most of the error, and without them the target holds. Empty when it is not so."""
    asked = TARGETS[LLAMA][engine].error_ratio if engine in TARGETS[LLAMA] else None
    if asked is None or abs(_ratio(ours, real) - 1) <= asked:
        return ""
    few = torch.cat([error.abs().topk(min(_FEW, len(error))).indices for error in (ours, real)]).unique()
    share = (real[few].square().sum() / real.square().sum()).item()
    others = torch.ones(len(real), dtype=torch.bool)
    others[few] = False
    without = _ratio(ours[others], real[others])
    if share < _MOST or abs(without - 1) > asked:
        return ""
    return (
        f"{len(few)} of {len(real):,} values hold {100 * share:.0f} % of the chip's error; without them {without:.2f}"
    )


def _prompt(path: Path, length: int) -> list[int]:
    try:
        ids = json.loads(path.read_text())["ids"]
    except (OSError, ValueError, KeyError) as error:
        raise EmulatorError(f"{path} does not give the prompt's ids ({error})") from error
    if len(ids) < length:
        raise EmulatorError(f"{path} has {len(ids)} ids, {length} were recorded")
    return [int(i) for i in ids[:length]]


def _arrays(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path) as arrays:
            return {name: as_torch(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise EmulatorError(f"{path} cannot be read ({error})") from error


def _reference(path: Path) -> dict[str, Tensor]:
    return _arrays(path) if path.exists() else {}


def _boundary(values: Mapping[str, Tensor], boundary: str, like: Tensor) -> Tensor | None:
    """The values at a boundary; `NAME_last_token` is the last row of NAME."""
    if boundary in values:
        return values[boundary].reshape(like.shape)
    whole = values.get(boundary.removesuffix("_last_token"))
    return None if whole is None else whole[-1].reshape(like.shape)
