# SPDX-License-Identifier: Apache-2.0
"""tttdebug: which module made a TTNN port diverge from its torch reference, by how much, and why.

Everything a user types is reachable from here; torch and transformers are imported only when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tttdebug.analysis.explain import explain
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.analysis.finding import Finding
    from tttdebug.backends import close_device, open_device
    from tttdebug.modules import HardwareConfig, MultiHeadAttention
    from tttdebug.modules.build import build_model
    from tttdebug.references import load_reference
    from tttdebug.references.golden_cache import GoldenCache
    from tttdebug.references.refpt import read_refpt, token_accuracy
    from tttdebug.specs import (
        AttentionSpec,
        CausalLMSpec,
        DecoderLayerSpec,
        EmbeddingSpec,
        FeedForwardSpec,
        LMHeadSpec,
        ModuleSpecFactory,
        NormSpec,
    )
    from tttdebug.tracking import (
        Audit,
        Comparison,
        ModuleSpecWithReference,
        Run,
        audit,
        compare,
        compare_outputs,
        get_reference_output,
        track,
        unrecorded,
        watch_reference,
    )

_HOME_OF = {
    "AttentionSpec": "specs",
    "FeedForwardSpec": "specs",
    "NormSpec": "specs",
    "EmbeddingSpec": "specs",
    "LMHeadSpec": "specs",
    "DecoderLayerSpec": "specs",
    "CausalLMSpec": "specs",
    "ModuleSpecFactory": "specs",
    "HardwareConfig": "modules",
    "MultiHeadAttention": "modules",
    "build_model": "modules.build",
    "open_device": "backends",
    "close_device": "backends",
    "load_reference": "references",
    "GoldenCache": "references.golden_cache",
    "read_refpt": "references.refpt",
    "token_accuracy": "references.refpt",
    "ModuleSpecWithReference": "tracking",
    "Comparison": "tracking",
    "compare": "tracking",
    "compare_outputs": "tracking",
    "get_reference_output": "tracking",
    "watch_reference": "tracking",
    "Run": "tracking",
    "track": "tracking",
    "explain": "analysis.explain",
    "Explanation": "analysis.explanation",
    "Finding": "analysis.finding",
    "audit": "tracking",
    "Audit": "tracking",
    "unrecorded": "tracking",
}

__all__ = [
    "AttentionSpec",
    "FeedForwardSpec",
    "NormSpec",
    "EmbeddingSpec",
    "LMHeadSpec",
    "DecoderLayerSpec",
    "CausalLMSpec",
    "ModuleSpecFactory",
    "ModuleSpecWithReference",
    "HardwareConfig",
    "MultiHeadAttention",
    "build_model",
    "open_device",
    "close_device",
    "load_reference",
    "GoldenCache",
    "read_refpt",
    "token_accuracy",
    "Comparison",
    "compare",
    "compare_outputs",
    "watch_reference",
    "get_reference_output",
    "Run",
    "track",
    "explain",
    "Explanation",
    "Finding",
    "audit",
    "Audit",
    "unrecorded",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tttdebug' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"tttdebug.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
