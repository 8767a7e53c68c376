# SPDX-License-Identifier: Apache-2.0
"""What a module needs from the hardware that runs it: `Cost`, for a `Workload`.

Conventions, the same for every spec:
  flops        2 per multiply-add of matrix products and convolutions, as torch.utils.flop_counter counts: a prefill's
               scores are counted dense, masked or not; norms, activations, softmax and rotary embedding count nothing
  weights      numbers in the checkpoint's tensors; `weights_read` are those that this workload touches (an embedding's
               rows, a router's choice of experts at worst), `weight_count` all of them
  activations  numbers that matrix products, norms and lookups read and write, everything else taken to be fused;
               scores count with attention_type='standard' only, and keys and values in decode are the cache's
  KV cache     keys and values of all positions so far, at most sliding_window of them
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from tttdebug.specs.validation import Count, InvalidSpecError, settle

Phase = Literal["prefill", "decode"]

DTYPE_BYTES = {  # per number; a block-float tile of 1024 numbers carries 64 exponent bytes, one for each 16 of them
    "float32": 4.0,
    "bfloat16": 2.0,
    "bfloat8_b": 1088 / 1024,
    "bfloat4_b": 576 / 1024,
}


@dataclass(frozen=True)
class Workload:
    """One call: `batch` sequences, in prefill all `seq_len` positions of each, in decode the last of `seq_len`."""

    batch: Count = 1
    seq_len: Count = 1
    phase: Phase = "prefill"

    def __post_init__(self) -> None:
        if violations := settle(self, ()):
            raise InvalidSpecError("cost", violations)

    @property
    def queries(self) -> int:
        """Positions of one sequence that go through the module."""
        return self.seq_len if self.phase == "prefill" else 1

    @property
    def tokens(self) -> int:
        """Positions of all sequences that go through the module."""
        return self.batch * self.queries


@dataclass(frozen=True)
class Cost:
    """Flops and memory traffic of one call of a module; costs add up. Counts are of numbers, bytes follow per dtype."""

    flops: int = 0
    weight_count: int = 0
    weights_read: int = 0
    activation_count: int = 0
    kv_cache_count: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes that the weights occupy, by the dtype they are stored in; padding to tiles not counted."""
        return _bytes_per_dtype(self.weight_count)

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations read and written, in bfloat16."""
        return math.ceil(self.activation_count * DTYPE_BYTES["bfloat16"])

    @property
    def kv_cache_bytes(self) -> dict[str, int]:
        """Bytes that keys and values occupy after this call, by the dtype they are stored in."""
        return _bytes_per_dtype(self.kv_cache_count)

    @property
    def arithmetic_intensity(self) -> dict[str, float]:
        """Flops per byte moved, by the dtype of weights and KV cache, activations in bfloat16; 0 if nothing moves."""
        moved = {
            dtype: (self.weights_read + self.kv_cache_count) * size + self.activation_bytes
            for dtype, size in DTYPE_BYTES.items()
        }
        return {dtype: self.flops / moved[dtype] if moved[dtype] else 0.0 for dtype in moved}


def _bytes_per_dtype(count: int) -> dict[str, int]:
    return {dtype: math.ceil(count * size) for dtype, size in DTYPE_BYTES.items()}


def linear(rows: int, inputs: int, outputs: int, bias: bool = False) -> Cost:
    """A matrix product of `rows` vectors of `inputs` numbers with a weight that gives `outputs` numbers each."""
    weights = inputs * outputs + (outputs if bias else 0)
    return Cost(2 * rows * inputs * outputs, weights, weights, rows * (inputs + outputs))
