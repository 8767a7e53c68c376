# SPDX-License-Identifier: Apache-2.0
"""What must be the same of a tensor of the emulator and of the real ttnn, whichever it is. Imports neither."""

from __future__ import annotations

from typing import Any


def describe(tensor: Any) -> dict[str, Any]:
    """Shape, dtype, layout, and where it lies: buffer, memory layout and the shape of its shards."""
    memory = tensor.memory_config()
    shard = memory.shard_spec
    return {
        "shape": [int(size) for size in tensor.shape],
        "dtype": _last(tensor.dtype),
        "layout": _last(tensor.layout),
        "memory": _last(memory.memory_layout),
        "buffer": _last(memory.buffer_type),
        "shard": None if shard is None else [int(size) for size in shard.shape],
    }


def _last(member: Any) -> str:
    """`DataType.BFLOAT16` as "bfloat16"."""
    return str(member).rpartition(".")[2].lower()
