# SPDX-License-Identifier: Apache-2.0
"""The families of recordings, and what each engine must reach in each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tttdebug.emulator.agreement import Agreement
from tttdebug.emulator.engines.functions import UNARY
from tttdebug.emulator.recordings import Recording


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
    MATMUL_BF16: {"exact": EVERY_BIT, "fast": EVERY_BIT},
    ROWS: {"exact": EVERY_BIT, "fast": Target(rms=0.003)},
    ATTENTION: {"exact": EVERY_BIT, "fast": Target(rms=0.005)},
    LLAMA: {"exact": EVERY_BIT, "fast": Target(error_ratio=0.15)},
    OTHER: {"exact": EVERY_BIT},
}
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
    return gives_fp32(recording) if config is None else bool(config.get("fp32_dest_acc_en"))


def gives_fp32(recording: Recording) -> bool:
    """Whether a product's output is fp32, as asked for or as its first operand is."""
    asked = recording.attrs.get("dtype")
    return asked == "float32" or (asked is None and next(iter(recording.inputs.values())).dtype == torch.float32)
