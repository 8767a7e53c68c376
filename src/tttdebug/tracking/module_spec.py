# SPDX-License-Identifier: Apache-2.0
"""A spec together with the reference module that says what it should compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.layout import align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.spread import read_output

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
        Raises LayoutError, with both shapes, when no known step leads from one layout to the other, and when the
        replicas of a tensor on several devices differ.
        """
        return compare_outputs(ref_outputs, our_outputs, phase=phase, user=user)


def compare_outputs(ref_output: Any, our_output: Any, *, phase: str = "prefill", user: int = 0) -> Comparison:
    """Every metric of our output against the reference's; see `ModuleSpecWithReference.compare_with_reference`."""
    truth, _ = element_of(ref_output, None, "reference")
    ours, _ = element_of(our_output, None, "port")
    aligned = align(to_torch(truth), read_output(ours), phase=phase, user=user)
    if aligned.faults:
        raise LayoutError("; ".join(aligned.faults))
    return compare(aligned.reference_TC, aligned.port_TC)
