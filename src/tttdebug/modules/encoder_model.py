# SPDX-License-Identifier: Apache-2.0
"""A whole encoder on ttnn: of text (BERT) or of images (ViT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.errors import PromptError
from tttdebug.modules.embedding import embedding_class
from tttdebug.modules.encoder_heads import Classifier, Pooler, first_position
from tttdebug.modules.encoder_layer import encoder_layer_class
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.module import TTModule
from tttdebug.modules.patch_embedding import PatchEmbedding
from tttdebug.modules.positions import PromptPositions, ids_on_device
from tttdebug.specs import EmbeddingSpec, EncoderModelSpec

if TYPE_CHECKING:
    import torch


class EncoderModel(TTModule[EncoderModelSpec]):
    """Token ids or an image to what the model ends in: classes, one vector, or a vector per position.

    Weights: those of its parts, under `embedding.`, `layers.{i}.`, `norm.`, `pooler.` and `classifier.`.
    """

    SPEC = EncoderModelSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, here = self.spec, (self.device, self.hw_config)
        self.hw_config.refuse_layers_beyond(spec.num_layers)
        self.embedding: Any = (
            embedding_class(spec.embedding)(spec.embedding, self.weights_of("embedding"), *here)
            if isinstance(spec.embedding, EmbeddingSpec)
            else PatchEmbedding(spec.embedding, self.weights_of("embedding"), *here)
        )
        self.layers = [
            encoder_layer_class(layer)(layer, self.weights_of(f"layers.{i}"), self.device, self.hw_config.for_layer(i))
            for i, layer in enumerate(spec.layers)
        ]
        final_norm, pooler, classifier = spec.final_norm, spec.pooler, spec.classifier
        self.norm: Any = final_norm and norm_class(final_norm)(final_norm, self.weights_of("norm"), *here)
        self.pooler: Any = pooler and Pooler(pooler, self.weights_of("pooler"), *here)
        self.classifier: Any = classifier and Classifier(classifier, self.weights_of("classifier"), *here)

    def encode(self, inputs: torch.Tensor) -> Any:
        """One sentence as token ids [S], or one image [C, H, W]. Raises PromptError for one that does not fit."""
        import torch

        if isinstance(self.embedding, PatchEmbedding):
            spec = self.embedding.spec
            if tuple(inputs.shape) != (spec.channels, spec.image_size, spec.image_size):
                raise PromptError(
                    f"the image is {list(inputs.shape)}, the model takes "
                    f"{[spec.channels, spec.image_size, spec.image_size]}: resize it"
                )
            positions = PromptPositions(self.device, spec.learned_positions)
            return self.forward(self.embedding.patches(inputs), positions)
        if not 0 < len(inputs) <= self.spec.max_sequence_length:
            raise PromptError(f"{len(inputs)} tokens, the model has {self.spec.max_sequence_length} positions")
        positions = PromptPositions(self.device, len(inputs))
        padded = torch.nn.functional.pad(inputs, (0, positions.padded_length - len(inputs)))
        return self.forward(ids_on_device(self.ttnn, self.device, padded[None]), positions)

    def forward(self, inputs: Any, positions: PromptPositions) -> Any:
        """Token ids [1, S] or patches [1, 1, S, F] on the device, padded to whole tiles."""
        x_11SD = (
            self.embedding(inputs, positions)
            if isinstance(self.spec.embedding, EmbeddingSpec)
            else (self.embedding(inputs))
        )
        for layer in self.layers:
            x_11SD = layer(x_11SD, positions)
        if self.norm is not None:
            x_11SD = self.norm(x_11SD)
        if self.pooler is not None:
            x_11SD = self.pooler(x_11SD)
        if self.classifier is None:
            return x_11SD
        return self.classifier(first_position(self.ttnn, x_11SD))
