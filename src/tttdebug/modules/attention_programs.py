# SPDX-License-Identifier: Apache-2.0
"""How fused attention is spread over the cores: how many queries and keys a core takes at a time, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tttdebug.specs.validation import TILE

LONG_PROMPT = 2048
"""From this many positions on a prompt has enough chunks of eight tiles for all cores."""

WIDEST_HEAD = 128
"""The widest head of which chunks of eight tiles fit in a core's L1 with fp32 sums; of wider ones, of four."""


@dataclass(frozen=True)
class AttentionProgram:
    """A program of ttnn's fused attention on all cores of a grid; a `chunk` of 0 is ttnn's own choice."""

    grid: tuple[int, int]
    chunk: int
    why: str

    def to_ttnn(self, ttnn: Any) -> Any:
        """The same as a program config of the given ttnn namespace, with the exact exponential."""
        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=self.grid,
            q_chunk_size=self.chunk,
            k_chunk_size=self.chunk,
            exp_approx_mode=False,
        )

    def __str__(self) -> str:
        cores = f"{self.grid[0]}x{self.grid[1]} cores"
        return f"{cores}, chunks of {self.chunk}" if self.chunk else f"{cores}, automatic chunks"


def choose_prompt_attention(length: int, head_dim: int, grid: tuple[int, int]) -> AttentionProgram:
    """The program for a prompt of `length` positions; `head_dim` is that of the heads on the device."""
    if length < LONG_PROMPT:
        why = f"a prompt below {LONG_PROMPT} is shared out tile by tile, so that all cores have some of it"
        return AttentionProgram(grid, TILE, why)
    if head_dim > WIDEST_HEAD:
        return AttentionProgram(grid, 4 * TILE, f"a prompt from {LONG_PROMPT} on, heads wider than {WIDEST_HEAD}")
    return AttentionProgram(grid, 8 * TILE, f"a prompt from {LONG_PROMPT} on has such chunks for all cores")


def choose_step_attention(grid: tuple[int, int]) -> AttentionProgram:
    """The program for a decode step."""
    return AttentionProgram(grid, 0, "one query a user; ttnn takes the longest chunk that divides the cache")
