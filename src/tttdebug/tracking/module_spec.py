# SPDX-License-Identifier: Apache-2.0
"""A spec together with the reference module that says what it should compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, to_torch
from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.hooks import first_tensor
from tttdebug.tracking.layout import align

if TYPE_CHECKING:
    from tttdebug.specs import ModuleSpec


@dataclass(frozen=True)
class ModuleSpecWithReference:
    """A module's spec, and where its truth is: `model.layers.15.self_attn` of a `huggingface` or `pytorch` model."""

    spec: ModuleSpec
    reference_module: str | None = None
    reference_source: str | None = "huggingface"

    def compare_with_reference(
        self, ref_outputs: Any, our_outputs: Any, *, phase: str = "prefill", user: int = 0
    ) -> Comparison:
        """Every metric of our output against the reference's.

        Either side may be a tensor (torch, emulated or ttnn) or the tuple or ModelOutput a module returned; padding and
        leading ones of a TTNN shape are taken off by named steps. In `decode`, `user` picks the row.
        Raises LayoutError, with both shapes, when no known step leads from one layout to the other.
        """
        return compare_outputs(ref_outputs, our_outputs, phase=phase, user=user)


def compare_outputs(ref_output: Any, our_output: Any, *, phase: str = "prefill", user: int = 0) -> Comparison:
    """Every metric of our output against the reference's; see `ModuleSpecWithReference.compare_with_reference`."""
    aligned = align(_tensor_of(ref_output), _tensor_of(our_output), phase=phase, user=user)
    return compare(aligned.reference_TC, aligned.port_TC)


def _tensor_of(outputs: Any) -> Any:
    if isinstance(outputs, (tuple, list)) and any(is_device_tensor(part) for part in outputs):
        return to_torch(next(part for part in outputs if is_device_tensor(part)))
    return to_torch(outputs) if is_device_tensor(outputs) else first_tensor(outputs)
