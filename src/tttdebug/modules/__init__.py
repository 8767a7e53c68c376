# SPDX-License-Identifier: Apache-2.0
"""TTNN modules: each turns a spec, weights and a hardware config into ttnn calls."""

from tttdebug.modules.attention import MultiHeadAttention
from tttdebug.modules.causal_lm import CausalLM
from tttdebug.modules.decoder_layer import DecoderLayer, ParallelDecoderLayer, SandwichDecoderLayer
from tttdebug.modules.embedding import Embedding, PositionedEmbedding
from tttdebug.modules.encoder_attention import EncoderAttention
from tttdebug.modules.encoder_heads import Classifier, Pooler
from tttdebug.modules.encoder_layer import EncoderLayer, PostNormEncoderLayer
from tttdebug.modules.encoder_model import EncoderModel
from tttdebug.modules.feed_forward import FeedForward
from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
from tttdebug.modules.layer_norm import LayerNorm
from tttdebug.modules.lm_head import LMHead
from tttdebug.modules.mixture_of_experts import MixtureOfExperts
from tttdebug.modules.patch_embedding import PatchEmbedding
from tttdebug.modules.plain_feed_forward import PlainFeedForward
from tttdebug.modules.positions import PromptPositions, StepPositions
from tttdebug.modules.rms_norm import RMSNorm
from tttdebug.modules.rotary_embedding import RotaryEmbedding
from tttdebug.modules.softcapped_attention import SoftcappedAttention

__all__ = [
    "MultiHeadAttention",
    "SoftcappedAttention",
    "EncoderAttention",
    "FeedForward",
    "PlainFeedForward",
    "MixtureOfExperts",
    "RMSNorm",
    "LayerNorm",
    "Embedding",
    "PositionedEmbedding",
    "PatchEmbedding",
    "RotaryEmbedding",
    "LMHead",
    "Pooler",
    "Classifier",
    "DecoderLayer",
    "SandwichDecoderLayer",
    "ParallelDecoderLayer",
    "EncoderLayer",
    "PostNormEncoderLayer",
    "CausalLM",
    "EncoderModel",
    "PromptPositions",
    "StepPositions",
    "ComputeKernel",
    "HardwareConfig",
]
