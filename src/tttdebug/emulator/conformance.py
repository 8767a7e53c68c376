# SPDX-License-Identifier: Apache-2.0
"""How true the engines are: every recording of a folder replayed, compared and judged against its family's target.

`replay_folder` gives a `CaseResult` per case and engine, `judge` a `FamilyResult` per family and engine.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttdebug.emulator import ttnn
from tttdebug.emulator.agreement import Agreement, compare, pool
from tttdebug.emulator.device import Device, open_device
from tttdebug.emulator.engines.functions import UNARY
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


@dataclass(frozen=True)
class Target:
    """What a family must reach: least shares, greatest distances; None where nothing is asked."""

    equal: float | None = None
    within_one_ulp: float | None = None
    greatest_ulp: float | None = None
    rms: float | None = None
    bias: float | None = None
    error_ratio: float | None = None

    def __str__(self) -> str:
        parts = [
            "" if self.equal is None else "every bit" if self.equal == 1 else f"equal ≥ {100 * self.equal:g} %",
            "" if self.within_one_ulp is None else f"within 1 ulp ≥ {100 * self.within_one_ulp:g} %",
            "" if self.greatest_ulp is None else f"never > {self.greatest_ulp:g} ulp",
            "" if self.rms is None else f"rms ≤ {100 * self.rms:g} %",
            "" if self.bias is None else f"bias within {100 * self.bias:g} %",
            "" if self.error_ratio is None else f"error within {100 * self.error_ratio:g} % of the chip's",
        ]
        return ", ".join(part for part in parts if part)

    def misses(self, agreement: Agreement, error_ratio: float | None = None) -> str:
        """What of the target is missed and by what; empty when it holds."""
        a, parts = agreement, []
        if self.equal is not None and not a.equal >= self.equal:
            parts.append(f"equal {percent(a.equal)}")
        if self.within_one_ulp is not None and not a.within_one_ulp >= self.within_one_ulp:
            parts.append(f"within 1 ulp {percent(a.within_one_ulp)}")
        if self.greatest_ulp is not None and not a.greatest_ulp <= self.greatest_ulp:
            parts.append(f"{a.greatest_ulp:g} ulp")
        if self.rms is not None and not a.rms <= self.rms:
            parts.append(f"rms {percent(a.rms)}")
        if self.bias is not None and not abs(a.bias) <= self.bias:
            parts.append(f"bias {percent(a.bias)}")
        if self.error_ratio is not None and error_ratio is not None and not abs(error_ratio - 1) <= self.error_ratio:
            parts.append(f"error {error_ratio:.2f} of the chip's")
        return ", ".join(parts)


PACKING, UNARY_FUNCTIONS, BINARY = "packing and typecasts", "unary functions", "add, subtract, multiply, divide"
MATMUL_FP32, MATMUL_BF16 = "matmul, linear: fp32 accumulation", "matmul, linear: bf16 accumulation"
ROWS, ATTENTION = "reductions, norms, softmax", "attention, rotary, caches"
LLAMA, OTHER = "Llama, whole chains", "other ops"

EVERY_BIT = Target(equal=1.0)
# The families in the order of the table, and what each engine must reach there.
TARGETS: dict[str, dict[str, Target]] = {
    PACKING: {"exact": EVERY_BIT, "fast": EVERY_BIT},
    UNARY_FUNCTIONS: {"exact": EVERY_BIT, "fast": Target(equal=0.99, greatest_ulp=1)},
    BINARY: {"exact": EVERY_BIT, "fast": Target(equal=0.999)},
    MATMUL_FP32: {"exact": EVERY_BIT, "fast": Target(equal=0.85, within_one_ulp=0.97)},
    MATMUL_BF16: {"exact": EVERY_BIT, "fast": Target(rms=0.007, bias=0.001)},
    ROWS: {"exact": EVERY_BIT, "fast": Target(rms=0.003)},
    ATTENTION: {"exact": EVERY_BIT, "fast": Target(rms=0.005)},
    LLAMA: {"exact": EVERY_BIT, "fast": Target(error_ratio=0.15)},
    OTHER: {"exact": EVERY_BIT},
}
# Why an engine falls short, where that lies in what it is.
_BY_DESIGN = {
    ("fast", MATMUL_FP32): "fast sums products in torch's order, not in the chip's groups of eight",
    ("fast", MATMUL_BF16): "fast models the roundings of a bfloat16 Dest between blocks, not at every step",
    ("fast", ROWS): "fast sums rows of exponentials in torch's order",
    ("fast", ATTENTION): "fast models the roundings of Dest between chunks, not at every step",
}
_FEW, _MOST = 16, 0.5  # so few values that hold more than this share of an error decide it alone
_FP32_OUTPUT = "its fp32 output shows every bit of a sum that fast takes in torch's order"
_OPS = {
    PACKING: {"from_torch", "typecast"},
    BINARY: {"add", "subtract", "multiply", "divide", "rsub"},
    ROWS: {"sum", "mean", "max", "min", "argmax", "topk", "softmax", "scale_mask_softmax", "rms_norm", "layer_norm"},
    ATTENTION: {
        "scaled_dot_product_attention", "scaled_dot_product_attention_decode", "rotary_embedding",
        "rotary_embedding_llama", "fill_cache", "update_cache", "paged_update_cache", "paged_fill_cache",
        "paged_scaled_dot_product_attention_decode",
    },
}  # fmt: skip


@dataclass(frozen=True)
class CaseResult:
    """One recording on one engine. `agreement` is None when it could not be replayed; `reason` then says why.

    `error_ratio` is that of a chain's boundary: the emulated error against the fp32 reference over the chip's.
    `unreachable` says why the engine, as it is made, cannot reach the target here; such a case is listed and does not
    decide about its family.
    """

    engine: str
    family: str
    file: str
    case: str
    op: str
    agreement: Agreement | None
    error_ratio: float | None = None
    reason: str = ""
    unreachable: str = ""

    @property
    def target(self) -> Target | None:
        return TARGETS[self.family].get(self.engine)

    @property
    def holds(self) -> bool:
        """Whether this case by itself reaches its family's target."""
        if self.agreement is None:
            return False
        return self.target is None or not self.target.misses(self.agreement, self.error_ratio)

    @property
    def shortfall(self) -> str:
        """What the case misses and why; empty when it holds."""
        if self.holds:
            return ""
        if self.agreement is None or self.target is None:
            return self.reason
        missed = self.target.misses(self.agreement, self.error_ratio)
        why = self.unreachable or self.reason or _BY_DESIGN.get((self.engine, self.family), "")
        return f"{missed}; {why}" if why else missed


@dataclass(frozen=True)
class FamilyResult:
    """A family on one engine; `agreement` pools the cases that decide. `not_run` says what could not be tried."""

    engine: str
    family: str
    cases: tuple[CaseResult, ...]
    agreement: Agreement | None
    holds: bool
    not_run: str = ""

    @property
    def target(self) -> Target | None:
        return TARGETS[self.family].get(self.engine)


@dataclass(frozen=True)
class NotRun:
    """Recordings that are in the folder and could not be tried at all."""

    family: str
    reason: str


def percent(share: float) -> str:
    """A share in percent, never rounded up to 100."""
    shown = f"{100 * share:.3f}"
    return f"{shown if shown != '100.000' or share == 1 else '<100'} %"


def family_of(recording: Recording) -> str:
    """The row of the table that a recording belongs to."""
    op = recording.op.split(" ")[0].split("->")[0]
    if op in _OPS[PACKING] or recording.family == "formats":
        return PACKING
    for family, ops in _OPS.items():
        if op in ops:
            return family
    if op in ("matmul", "linear"):
        return MATMUL_FP32 if _accumulates_in_fp32(recording) else MATMUL_BF16
    return UNARY_FUNCTIONS if op.removesuffix("_approx") in UNARY or recording.family == "unary" else OTHER


def _accumulates_in_fp32(recording: Recording) -> bool:
    config = recording.attrs.get("compute_kernel_config")
    return _gives_fp32(recording) if config is None else bool(config.get("fp32_dest_acc_en"))


def _gives_fp32(recording: Recording) -> bool:
    """Whether a product's output is fp32, as asked for or as its first operand is."""
    asked = recording.attrs.get("dtype")
    return asked == "float32" or (asked is None and next(iter(recording.inputs.values())).dtype == torch.float32)


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


def replay_case(recording: Recording, engine: str, devices: _Devices) -> CaseResult:
    """One recording on one engine."""
    family = family_of(recording)
    agreement, reason = None, ""
    try:
        output = call(recording, devices.get(engine, recording.arch))
        agreement = compare(values_of(output, recording), recording.output, output.dtype.format)
    except EmulatorError as error:
        reason = f"not covered: {error}"
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
        reason = f"failed: {type(error).__name__}: {error}"
    beyond = _FP32_OUTPUT if engine == "fast" and family == MATMUL_FP32 and _gives_fp32(recording) else ""
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


def judge(cases: Sequence[CaseResult], not_run: Sequence[NotRun], engines: Sequence[str]) -> list[FamilyResult]:
    """A result per engine and family, in the table's order.

    A family holds when every case could be replayed and those that can reach the target do so together: each element
    counts once, and of each chain the mean over its boundaries (geometric) of the ratio of errors.
    """
    results = []
    for engine in engines:
        for family in TARGETS:
            own = tuple(case for case in cases if (case.engine, case.family) == (engine, family))
            untried = "; ".join(entry.reason for entry in not_run if entry.family == family)
            if own or untried:
                results.append(_judge_family(engine, family, own, untried))
    return results


def _judge_family(engine: str, family: str, cases: tuple[CaseResult, ...], not_run: str) -> FamilyResult:
    deciding = [case for case in cases if not case.unreachable]
    measured = [case.agreement for case in deciding if case.agreement is not None]
    pooled = pool(measured) if measured else None
    target = TARGETS[family].get(engine)
    complete = not not_run and all(case.agreement is not None for case in cases)
    reached = pooled is not None and (target is None or not target.misses(pooled))
    for chain in {case.file for case in deciding}:
        ratios = [case.error_ratio for case in deciding if case.file == chain and case.error_ratio is not None]
        if ratios and target is not None and pooled is not None:
            mean = math.exp(sum(math.log(max(ratio, 1e-9)) for ratio in ratios) / len(ratios))
            reached = reached and not target.misses(pooled, mean)
    return FamilyResult(engine, family, cases, pooled, complete and reached, not_run)
