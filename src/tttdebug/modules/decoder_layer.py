# SPDX-License-Identifier: Apache-2.0
"""A decoder layer: attention and feed-forward, each added to the residual stream; three ways to place the norms."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.attention import MultiHeadAttention
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.mixture_of_experts import MixtureOfExperts
from tttdebug.modules.module import TTModule
from tttdebug.modules.plain_feed_forward import feed_forward_class
from tttdebug.modules.positions import PromptPositions, StepPositions
from tttdebug.modules.rotary_embedding import RotaryEmbedding
from tttdebug.modules.softcapped_attention import SoftcappedAttention
from tttdebug.specs import DecoderLayerSpec, MixtureOfExpertsSpec, NormSpec


class DecoderLayer(TTModule[DecoderLayerSpec]):
    """h = x + attention(norm(x)); h + feed_forward(norm(h)): Llama and most others.

    Weights: those of its parts, under `attention_norm.`, `attention.`, `ff_norm.` and `feed_forward.`.
    """

    SPEC = DecoderLayerSpec

    @property
    def wiring(self) -> str:
        """What the layer computes of its parts, from its input x."""
        return "h = x + attention(attention_norm(x)); h + feed_forward(ff_norm(h))"

    def __init__(self, *args: Any, rotary: RotaryEmbedding | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, here = self.spec, (self.device, self.hw_config)
        attention = SoftcappedAttention if spec.attention.logit_softcap is not None else MultiHeadAttention
        self.attention_norm = self.norm_at("attention_norm", spec.input_norm)
        self.attention = attention(spec.attention, self.weights_of("attention"), *here, rotary=rotary)
        network, weights = spec.feed_forward, self.weights_of("feed_forward")
        self.feed_forward: Any = (
            MixtureOfExperts(network, weights, *here)
            if isinstance(network, MixtureOfExpertsSpec)
            else feed_forward_class(network)(network, weights, *here)
        )
        self.place_other_norms()

    @staticmethod
    def not_computed(spec: DecoderLayerSpec) -> dict[str, bool]:
        return {
            "norms on the outputs of branches (SandwichDecoderLayer does)": spec.norms_branch_outputs,
            "parallel_residual (ParallelDecoderLayer does)": spec.parallel_residual,
        }

    def norm_at(self, name: str, spec: NormSpec | None) -> Any:
        """The norm `name`; None where the spec has none."""
        return None if spec is None else norm_class(spec)(spec, self.weights_of(name), self.device, self.hw_config)

    def place_other_norms(self) -> None:
        """The norms besides the one before attention."""
        self.ff_norm = self.norm_at("ff_norm", self.spec.post_attention_norm)

    def prefill_forward(self, x_11SD: Any, positions: PromptPositions, user: int = 0) -> Any:
        return self.rest(x_11SD, self.attention.prefill_forward(self.attention_norm(x_11SD), positions, user))

    def decode_forward(self, x_11BD: Any, positions: StepPositions) -> Any:
        return self.rest(x_11BD, self.attention.decode_forward(self.attention_norm(x_11BD), positions))

    def rest(self, x_11SD: Any, attended_11SD: Any) -> Any:
        """The layer's output, from its input and what attention gave."""
        h_11SD = self.ttnn.add(x_11SD, attended_11SD)
        self.ttnn.deallocate(attended_11SD)
        fed_11SD = self.feed_forward(self.ff_norm(h_11SD))
        out_11SD = self.ttnn.add(h_11SD, fed_11SD)
        self.ttnn.deallocate(fed_11SD)
        return out_11SD


class SandwichDecoderLayer(DecoderLayer):
    """h = x + norm(attention(norm(x))); h + norm(feed_forward(norm(h))): Gemma 2 and 3.

    Weights: besides, `post_attention_norm.` and `post_ff_norm.`.
    """

    @property
    def wiring(self) -> str:
        return "h = x + post_attention_norm(attention(attention_norm(x))); h + post_ff_norm(feed_forward(ff_norm(h)))"

    @staticmethod
    def not_computed(spec: DecoderLayerSpec) -> dict[str, bool]:
        return {"norms before branches alone (DecoderLayer does)": not spec.norms_branch_outputs}

    def place_other_norms(self) -> None:
        self.post_attention_norm = self.norm_at("post_attention_norm", self.spec.post_attention_norm)
        self.ff_norm = self.norm_at("ff_norm", self.spec.pre_feed_forward_norm)
        self.post_ff_norm = self.norm_at("post_ff_norm", self.spec.post_feed_forward_norm)

    def rest(self, x_11SD: Any, attended_11SD: Any) -> Any:
        h_11SD = self.ttnn.add(x_11SD, self.post_attention_norm(attended_11SD))
        fed_11SD = self.feed_forward(self.ff_norm(h_11SD))
        return self.ttnn.add(h_11SD, self.post_ff_norm(fed_11SD))


class ParallelDecoderLayer(DecoderLayer):
    """x + attention(norm(x)) + feed_forward(norm(x)), with one norm for both or one each: GPT-J, Falcon, Cohere."""

    @property
    def wiring(self) -> str:
        if self.ff_norm is None:
            return "n = attention_norm(x); x + attention(n) + feed_forward(n)"
        return "x + attention(attention_norm(x)) + feed_forward(ff_norm(x))"

    @staticmethod
    def not_computed(spec: DecoderLayerSpec) -> dict[str, bool]:
        return {"parallel_residual=False (DecoderLayer does)": not spec.parallel_residual}

    def rest(self, x_11SD: Any, attended_11SD: Any) -> Any:
        norm = self.attention_norm if self.ff_norm is None else self.ff_norm
        fed_11SD = self.feed_forward(norm(x_11SD))
        return self.ttnn.add(self.ttnn.add(x_11SD, attended_11SD), fed_11SD)


def decoder_layer_class(spec: DecoderLayerSpec) -> type[DecoderLayer]:
    """The class that computes this layer."""
    if spec.norms_branch_outputs:
        return SandwichDecoderLayer
    return ParallelDecoderLayer if spec.parallel_residual else DecoderLayer
