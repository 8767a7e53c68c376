# SPDX-License-Identifier: Apache-2.0
"""A whole decoder-only language model on ttnn, prefill and decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.errors import PromptError
from tttdebug.modules.decoder_layer import decoder_layer_class
from tttdebug.modules.embedding import embedding_class
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.lm_head import LMHead
from tttdebug.modules.module import TTModule
from tttdebug.modules.positions import MAX_USERS, PromptPositions, StepPositions, ids_on_device
from tttdebug.modules.rotary_embedding import RotaryEmbedding
from tttdebug.specs import AttentionSpec, CausalLMSpec, RopeSpec

if TYPE_CHECKING:
    import torch


class CausalLM(TTModule[CausalLMSpec]):
    """Token ids to logits.

    Weights: those of its parts, under `embedding.`, `layers.{i}.`, `norm.` and `lm_head.`.
    """

    SPEC = CausalLMSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, here = self.spec, (self.device, self.hw_config)
        self.hw_config.refuse_layers_beyond(spec.num_layers)
        self.embedding = embedding_class(spec.embedding)(spec.embedding, self.weights_of("embedding"), *here)
        self._rotaries: dict[tuple[RopeSpec, int], RotaryEmbedding] = {}
        self.layers = [
            decoder_layer_class(layer)(
                layer,
                self.weights_of(f"layers.{i}"),
                self.device,
                self.hw_config.for_layer(i),
                rotary=self._rotary(layer.attention),
            )
            for i, layer in enumerate(spec.layers)
        ]
        self.norm: Any = norm_class(spec.final_norm)(spec.final_norm, self.weights_of("norm"), *here)
        self.lm_head = LMHead(spec.lm_head, self.weights_of("lm_head"), *here)

    def _rotary(self, attention: AttentionSpec) -> RotaryEmbedding | None:
        """One rotary embedding for all layers whose heads turn alike."""
        if attention.rope is None:
            return None
        key = (attention.rope, attention.head_dim)
        if key not in self._rotaries:
            self._rotaries[key] = RotaryEmbedding(attention, self.device)
        return self._rotaries[key]

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

        positions = PromptPositions(self.device, len(token_ids))
        padded = torch.nn.functional.pad(token_ids, (0, positions.padded_length - len(token_ids)))
        return self.prefill_forward(ids_on_device(self.ttnn, self.device, padded[None]), positions, user)

    def decode(self, token_ids: torch.Tensor, positions: torch.Tensor) -> Any:
        """Logits [1, 1, 32, vocabulary] after one more token of each user, ids and positions [B].

        Rows beyond B are padding.
        """
        import torch

        padded = torch.nn.functional.pad(token_ids, (0, MAX_USERS - len(token_ids)))
        ids_1B = ids_on_device(self.ttnn, self.device, padded[None])
        return self.decode_forward(ids_1B, StepPositions(self.device, positions))

    def prefill_forward(self, token_ids_1S: Any, positions: PromptPositions, user: int = 0) -> Any:
        x_11SD = self.embedding(token_ids_1S, positions)
        for layer in self.layers:
            x_11SD = layer.prefill_forward(x_11SD, positions, user)
        return self.lm_head(self.norm(x_11SD))

    def decode_forward(self, token_ids_1B: Any, positions: StepPositions) -> Any:
        x_11BD = self.embedding(token_ids_1B, positions)
        for layer in self.layers:
            x_11BD = layer.decode_forward(x_11BD, positions)
        return self.lm_head(self.norm(x_11BD))
