# SPDX-License-Identifier: Apache-2.0
"""What must be the same of a tensor of the emulator and of the real ttnn, whichever it is."""

from __future__ import annotations

from typing import Any

from tttdebug.backends import describe_topology


def describe(tensor: Any) -> dict[str, Any]:
    """Shape, dtype, layout, and where it lies: buffer, memory layout, the shape of its shards, and how over a mesh."""
    memory = tensor.memory_config()
    shard = memory.shard_spec
    return {
        "shape": [int(size) for size in tensor.shape],
        "dtype": _last(tensor.dtype),
        "layout": _last(tensor.layout),
        "memory": _last(memory.memory_layout),
        "buffer": _last(memory.buffer_type),
        "shard": None if shard is None else [int(size) for size in shard.shape],
        "mesh": describe_topology(tensor),
    }


def _last(member: Any) -> str:
    """`DataType.BFLOAT16` as "bfloat16"."""
    return str(member).rpartition(".")[2].lower()
