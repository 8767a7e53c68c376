# SPDX-License-Identifier: Apache-2.0
"""What a module computes, in plain fp32 torch, from its spec, with every step open to change."""

from tttdebug.analysis.mathematics.arithmetic import Arithmetic, Numbers
from tttdebug.analysis.mathematics.attention_steps import AttentionSteps
from tttdebug.analysis.mathematics.compute import compute, computes, default_steps
from tttdebug.analysis.mathematics.ends import EmbeddingSteps, HeadSteps
from tttdebug.analysis.mathematics.feed_forward import FeedForwardSteps
from tttdebug.analysis.mathematics.layer import LayerSteps
from tttdebug.analysis.mathematics.memory import Memory
from tttdebug.analysis.mathematics.mixture import MixtureSteps
from tttdebug.analysis.mathematics.norm import NormSteps

__all__ = [
    "Arithmetic",
    "AttentionSteps",
    "EmbeddingSteps",
    "FeedForwardSteps",
    "HeadSteps",
    "LayerSteps",
    "Memory",
    "MixtureSteps",
    "NormSteps",
    "Numbers",
    "compute",
    "computes",
    "default_steps",
]
