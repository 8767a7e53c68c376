# SPDX-License-Identifier: Apache-2.0
"""A whole decoder-only language model on ttnn, prefill and decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PromptError
from tttdebug.modules.decoder_layer import DecoderLayer
from tttdebug.modules.embedding import Embedding
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.lm_head import LMHead
from tttdebug.modules.module import TTModule, under
from tttdebug.modules.placement import WeightFormat
from tttdebug.modules.rms_norm import RMSNorm
from tttdebug.modules.rotary_embedding import TILE, RotaryEmbedding

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import CausalLMSpec

MAX_USERS = TILE  # a decode step is one tile row a user


class CausalLM(TTModule["CausalLMSpec"]):
    """Token ids to logits.

    Weights: `embedding.weight`, `layers.{i}.…` (see DecoderLayer), `norm.weight`, `lm_head.weight`.
    """

    def __init__(
        self,
        spec: CausalLMSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        here = (self.device, self.hw_config)
        self.rotary = RotaryEmbedding(spec.layers[0].attention, self.device)
        self.embedding = Embedding(spec.embedding, under(weights, "embedding"), *here)
        self.layers = [
            DecoderLayer(layer, under(weights, f"layers.{i}"), *here, rotary=self.rotary)
            for i, layer in enumerate(spec.layers)
        ]
        self.norm = RMSNorm(spec.final_norm, under(weights, "norm"), *here)
        self.lm_head = LMHead(spec.lm_head, under(weights, "lm_head"), *here)

    def allocate_cache(self, users: int, length: int) -> None:
        """Fresh caches for up to 32 users and `length` positions each. Raises PromptError beyond the model's bounds."""
        if not 1 <= users <= MAX_USERS:
            raise PromptError(
                f"{users} prompts at once: a decode step holds 1 to {MAX_USERS} users; give fewer prompts"
            )
        if length > self.spec.max_sequence_length:
            raise PromptError(
                f"prompt and decode steps need {length} positions, the model has "
                f"{self.spec.max_sequence_length}; shorten them"
            )
        for layer in self.layers:
            layer.attention.allocate_cache(users, length)

    def prefill(self, token_ids: torch.Tensor, user: int = 0) -> Any:
        """Logits [1, 1, S', vocabulary] of one prompt [S]; S' is S rounded up to whole tiles."""
        import torch

        padded = torch.nn.functional.pad(token_ids, (0, -len(token_ids) % TILE))
        tables = self.rotary.prefill_tables(0, len(padded))
        return self.prefill_forward(self._token_ids(padded[None]), tables, user)

    def decode(self, token_ids: torch.Tensor, positions: torch.Tensor) -> Any:
        """Logits [1, 1, 32, vocabulary] after one more token of each user, ids and positions [B].

        Rows beyond B are padding.
        """
        import torch

        padded = torch.nn.functional.pad(token_ids, (0, MAX_USERS - len(token_ids)))
        positions_B = self.ttnn.from_torch(positions.to(torch.int32), dtype=self.ttnn.int32, device=self.device)
        return self.decode_forward(self._token_ids(padded[None]), self.rotary.decode_tables(positions), positions_B)

    def prefill_forward(self, token_ids_1S: Any, tables: tuple[Any, Any], user: int = 0) -> Any:
        x_11SD = self.embedding(token_ids_1S)
        for layer in self.layers:
            x_11SD = layer.prefill_forward(x_11SD, tables, user)
        return self.lm_head(self.norm(x_11SD))

    def decode_forward(self, token_ids_1B: Any, tables: tuple[Any, Any], positions_B: Any) -> Any:
        x_11BD = self.embedding(token_ids_1B)
        for layer in self.layers:
            x_11BD = layer.decode_forward(x_11BD, tables, positions_B)
        return self.lm_head(self.norm(x_11BD))

    def declared_formats(self) -> Iterator[tuple[str, WeightFormat]]:
        """Every weight's name and how the port keeps it."""
        parts: dict[str, Any] = {"embedding": self.embedding, "norm": self.norm, "lm_head": self.lm_head}
        for i, layer in enumerate(self.layers):
            for part in ("attention_norm", "attention", "ff_norm", "feed_forward"):
                parts[f"layers.{i}.{part}"] = getattr(layer, part)
        for path, module in parts.items():
            for name, weight_format in module.weight_formats.items():
                yield f"{path}.{name}", weight_format

    def _token_ids(self, token_ids: torch.Tensor) -> Any:
        import torch

        ttnn = self.ttnn
        return ttnn.from_torch(
            token_ids.to(torch.int32), dtype=ttnn.uint32, layout=ttnn.ROW_MAJOR_LAYOUT, device=self.device
        )
