# SPDX-License-Identifier: Apache-2.0
"""What a hardware config decides for an attention and its layer on a device, each decision with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import describe_device
from tttdebug.modules.positions import TILE

if TYPE_CHECKING:
    from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
    from tttdebug.specs import AttentionSpec

WIDEST_INTERLEAVED = 8192
"""The widest hidden dimension whose activations stay interleaved in DRAM; wider ones are cut into blocks in L1."""


@dataclass(frozen=True)
class Decision:
    """Something that a spec leaves open: what it is, what was chosen, and why."""

    about: str
    choice: str
    why: str

    def __str__(self) -> str:
        return f"{self.about}: {self.choice}, {self.why}"


def is_block_sharded(hidden_dim: int) -> bool:
    """Whether what a projection of such width gives is cut into blocks over the cores' L1."""
    return hidden_dim > WIDEST_INTERLEAVED


def explain(config: HardwareConfig, spec: AttentionSpec, device: Any) -> tuple[Decision, ...]:
    """Every decision for such an attention and the rest of its layer; a line each when printed."""
    described = describe_device(device)
    return (
        _fusion(config, spec),
        *(_group(config, *group) for group in _GROUPS),
        Decision("kv_cache", config.kv_cache, f"as {config.name} has it; {_WHY_DTYPE[config.kv_cache]}"),
        _memory(spec),
        _attention_program(described.grid),
        Decision("matmul programs", "ttnn's own", "it fits blocks to shape and grid; none is forced here"),
    )


def _fusion(config: HardwareConfig, spec: AttentionSpec) -> Decision:
    width = spec.q_dim + 2 * spec.kv_dim
    if config.fuse_qkv:
        return Decision("wqkv", "one matmul", f"fuse_qkv: the input is read once for all {width} outputs")
    return Decision("wqkv", "three matmuls", "fuse_qkv is off: each projection can be compared alone")


def _group(config: HardwareConfig, weights: str, op: str) -> Decision:
    dtype, kernel = getattr(config, weights), getattr(config, op)
    return Decision(weights, f"{dtype} with {_short(kernel)}", f"as {config.name} has it; {_WHY_DTYPE[dtype]}")


def _memory(spec: AttentionSpec) -> Decision:
    if is_block_sharded(spec.hidden_dim):
        return Decision("memory", "L1, block sharded", f"hidden_dim {spec.hidden_dim} exceeds {WIDEST_INTERLEAVED}")
    return Decision("memory", "DRAM, interleaved", f"hidden_dim {spec.hidden_dim} is at most {WIDEST_INTERLEAVED}")


def _attention_program(grid: tuple[int, int]) -> Decision:
    cores = "x".join(map(str, grid))
    return Decision(
        "attention program", f"{cores} cores, chunks of {TILE}", "all cores; a chunk fits any prompt's tiles"
    )


def _short(kernel: ComputeKernel) -> str:
    return f"{kernel.math_fidelity}{', fp32 sums' if kernel.fp32_dest_acc_en else ''}"


_GROUPS = (("wqkv", "li_qkv"), ("wo", "li_o"), ("ff1_ff3", "li_ff1_ff3"), ("ff2", "li_ff2"))
_WHY_DTYPE = {
    "bfloat16": "8 significand bits, 2 bytes a value",
    "bfloat8_b": "7 significand bits and an exponent shared by 16, half the bytes of bfloat16",
    "bfloat4_b": "3 significand bits and an exponent shared by 16, a quarter of the bytes of bfloat16",
    "float32": "24 significand bits, 4 bytes a value",
}
