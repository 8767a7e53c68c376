# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding as rotary_embedding_llama wants it: interleaved pairs, two tables, a 32x32 rotation.

S sequence, B users, H heads, E head dimension, R the part of it that turns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tttdebug.backends import namespace_of
from tttdebug.errors import PromptError, SpecError
from tttdebug.modules.positions import TILE, whole_tiles

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import AttentionSpec, RopeSpec


WIDEST_HEAD = 256
"""The widest head that rotary_embedding_llama takes."""


class RotaryEmbedding:
    """The angle tables of one model on one device, and the rotation of query and key heads by them."""

    def __init__(self, spec: AttentionSpec, device: Any) -> None:
        import torch

        if spec.rope is None:
            raise SpecError("RotaryEmbedding needs a spec with a rope, this attention spec has none")
        self.device = device
        self.ttnn = namespace_of(device)
        self._positions = spec.max_sequence_length
        positions_S = torch.arange(whole_tiles(spec.max_sequence_length)).float()  # prompts are padded to whole tiles
        angles_SR = torch.outer(positions_S, inverse_frequencies(spec.rope, spec.rotary_dim)).repeat_interleave(2, -1)
        still = (0, whole_tiles(spec.head_dim) - spec.rotary_dim)  # channels that do not turn: cos 1, sin 0
        scale = spec.rope.cos_sin_scale
        self._cos_SE = torch.nn.functional.pad(angles_SR.cos() * scale, still, value=1.0)
        self._sin_SE = torch.nn.functional.pad(angles_SR.sin() * scale, still)
        self._rotation = self._to_device(quarter_turn()[None, None])

    def prefill_tables(self, start: int, length: int) -> tuple[Any, Any]:
        """cos and sin [1, 1, length, E] for the positions from `start` on, padding to whole tiles included."""
        self._refuse_beyond(start + length - TILE)
        rows = slice(start, start + length)
        return self._to_device(self._cos_SE[rows][None, None]), self._to_device(self._sin_SE[rows][None, None])

    def decode_tables(self, positions_B: torch.Tensor) -> tuple[Any, Any]:
        """cos and sin [1, B, 1, E], a position a user, one user a core."""
        self._refuse_beyond(int(positions_B.max()))
        cos_1B1E, sin_1B1E = self._cos_SE[positions_B][None, :, None], self._sin_SE[positions_B][None, :, None]
        return self._one_user_a_core(cos_1B1E), self._one_user_a_core(sin_1B1E)

    def _refuse_beyond(self, position: int) -> None:
        """Raise PromptError for a position that the spec does not have."""
        if position >= self._positions:
            raise PromptError(
                f"position {position} is beyond the {self._positions} that the attention spec's max_sequence_length "
                "gives the rotary embedding: shorten the prompt or raise it"
            )

    def prefill_forward(self, heads_1HSE: Any, tables: tuple[Any, Any]) -> Any:
        return self.ttnn.experimental.rotary_embedding_llama(heads_1HSE, *tables, self._rotation, is_decode_mode=False)

    def decode_forward(self, heads_1BHE: Any, tables: tuple[Any, Any]) -> Any:
        users = heads_1BHE.shape[1]
        rotation = self._one_user_a_core(quarter_turn().repeat(users, 1)[None, None])
        return self.ttnn.experimental.rotary_embedding_llama(heads_1BHE, *tables, rotation, is_decode_mode=True)

    def _to_device(self, table: torch.Tensor, memory_config: Any = None) -> Any:
        ttnn = self.ttnn
        return ttnn.from_torch(
            table, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=self.device, memory_config=memory_config
        )

    def _one_user_a_core(self, table: torch.Tensor) -> Any:
        users = table.shape[1] if table.shape[1] > 1 else max(1, table.shape[2] // TILE)
        return self._to_device(table, height_sharded(self.ttnn, self.device, users, (TILE, table.shape[-1])))


def refused_by_rotary_embedding(spec: AttentionSpec) -> dict[str, bool]:
    """What ttnn's op does not take, with whether the spec asks for it."""
    wide = f"a rope over heads of {spec.head_dim}, {WIDEST_HEAD} being the most that ttnn turns"
    return {wide: spec.rope is not None and spec.head_dim > WIDEST_HEAD}


def height_sharded(ttnn: Any, device: Any, shards: int, shard_shape: tuple[int, int]) -> Any:
    """L1 memory in which each of `shards` cores holds one shard of `shard_shape`, as decode ops want heads."""
    cores = ttnn.num_cores_to_corerangeset(shards, device.compute_with_storage_grid_size(), True)
    return ttnn.create_sharded_memory_config(
        shape=shard_shape,
        core_grid=cores,
        strategy=ttnn.ShardStrategy.HEIGHT,
        orientation=ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )


def quarter_turn() -> torch.Tensor:
    """The 32x32 matrix R for which x·R holds (−x₁, x₀) wherever x holds the pair (x₀, x₁)."""
    import torch

    return torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]])] * (TILE // 2))


def inverse_frequencies(spec: RopeSpec, rotary_dim: int) -> torch.Tensor:
    """The angle per position of each rotated pair, [R/2], fp32, with the scaling the spec names.

    `linear` divides all by the factor; `llama3` divides long wavelengths only, with a smooth passage between the two
    (Llama 3.1's published rule); `yarn` does so by how often a pair turns (Peng et al. 2023, arXiv 2309.00071).
    Raises SpecError for another scaling.
    """
    import torch

    frequencies: torch.Tensor = 1.0 / spec.theta ** (torch.arange(0, rotary_dim, 2).float() / rotary_dim)
    if spec.scaling == "default":
        return frequencies
    if spec.scaling == "linear":
        return frequencies / spec.factor
    if spec.scaling == "llama3" and spec.original_max_position is not None:
        turns = spec.original_max_position * frequencies / (2 * math.pi)
        smooth = (turns - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor)
        kept = smooth.clamp(0, 1)
        return kept * frequencies + (1 - kept) * frequencies / spec.factor
    if spec.scaling == "yarn" and spec.original_max_position is not None:
        divided = _yarn_share_divided(spec, spec.original_max_position, rotary_dim)
        return divided * frequencies / spec.factor + (1 - divided) * frequencies
    raise SpecError(
        f"RotaryEmbedding knows the scalings default, linear, llama3 and yarn, the spec asks for {spec.scaling!r}"
    )


def _yarn_share_divided(spec: RopeSpec, context: int, rotary_dim: int) -> torch.Tensor:
    """How much of each pair's frequency is divided by the factor: 0 for pairs that turn often, 1 for slow ones."""
    import torch

    def pair_that_turns(times: float) -> float:
        return rotary_dim * math.log(context / (times * 2 * math.pi)) / (2 * math.log(spec.theta))

    first, last = pair_that_turns(spec.beta_fast), pair_that_turns(spec.beta_slow)
    if spec.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotary_dim - 1)
    return ((torch.arange(rotary_dim // 2).float() - first) / max(last - first, 0.001)).clamp(0, 1)
