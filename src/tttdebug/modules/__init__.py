# SPDX-License-Identifier: Apache-2.0
"""TTNN modules: each turns a spec, weights and a hardware config into ttnn calls."""

from tttdebug.modules.attention import MultiHeadAttention
from tttdebug.modules.causal_lm import CausalLM
from tttdebug.modules.decoder_layer import DecoderLayer
from tttdebug.modules.embedding import Embedding
from tttdebug.modules.feed_forward import FeedForward
from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
from tttdebug.modules.lm_head import LMHead
from tttdebug.modules.rms_norm import RMSNorm
from tttdebug.modules.rotary_embedding import RotaryEmbedding

__all__ = [
    "CausalLM",
    "ComputeKernel",
    "DecoderLayer",
    "Embedding",
    "FeedForward",
    "HardwareConfig",
    "LMHead",
    "MultiHeadAttention",
    "RMSNorm",
    "RotaryEmbedding",
]
