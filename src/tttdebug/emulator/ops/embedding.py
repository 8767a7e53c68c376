# SPDX-License-Identifier: Apache-2.0
"""Embedding lookup: rows of a table, copied."""

from __future__ import annotations

from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import device_of, operation
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG
from tttdebug.emulator.tensor import Tensor


@operation("ttnn.embedding", accepts="memory_config output_tensor embeddings_type", only={"padding_idx": None})
def embedding(
    input_tensor: Tensor, weight: Tensor, *, layout: Layout | None = None, dtype: DataType | None = None
) -> Tensor:
    """Rows of `weight` [..., vocabulary, width] for integer ids [..., S], as [..., S, width]."""
    op = "ttnn.embedding"
    if input_tensor.dtype.is_float and input_tensor.dtype is not DataType.BFLOAT16:
        raise EmulatorError(f"{op}: input_tensor is {input_tensor.dtype}; ids are uint32 (or bfloat16)")
    if weight.dtype is not DataType.BFLOAT16 and weight.dtype is not DataType.FLOAT32:
        raise EmulatorError(f"{op}: weight is {weight.dtype}; tables are bfloat16 or float32")
    ids = input_tensor.values.long()
    table = weight.values.reshape(weight.shape[-2], weight.shape[-1])
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < table.shape[0]:
        raise EmulatorError(f"{op}: ids run from {ids.min()} to {ids.max()}, the table has {table.shape[0]} rows")
    values, target = table[ids], dtype or weight.dtype
    if target is not weight.dtype:
        values = device_of(weight).engine.cast(values, weight.dtype.format, target.format)
    return Tensor(values, target, layout or weight.layout, weight.device(), DRAM_MEMORY_CONFIG)
