# SPDX-License-Identifier: Apache-2.0
"""A bundle: everything that one failing call of a module needs, in memory, and the texts that its files hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.finding import Finding
from tttdebug.bundles.capture import Captured
from tttdebug.bundles.case import Seen
from tttdebug.bundles.shrinking import Shrunk
from tttdebug.bundles.standalone import GOLDEN, PLACES, EmulatedOn, block_of, test_text
from tttdebug.tracking.manifest import installed_versions
from tttdebug.tracking.run import Run

if TYPE_CHECKING:
    import torch

ISSUE, ABOUT = "ISSUE.md", "bundle.json"
SCHEMA = 1
_OF_DEVICE = ("kind", "engine", "architecture", "grid", "mesh", "runs_on")
_OF_MODEL = ("name", "architecture", "layers", "weights_digest")


@dataclass(frozen=True)
class Bundle:
    """One call of a module, recorded and cut down. `whole` is what the module gave before anything was cut."""

    captured: Captured
    whole: Seen
    shrunk: Shrunk
    run: Run
    device: EmulatedOn
    finding: Finding | None = None

    @property
    def name(self) -> str:
        """A name for files and for Python, of the boundary and the call."""
        call = self.captured.call
        step = f"_{call.step}" if call.phase == "decode" else ""
        user = f"_user_{call.user}" if call.user else ""
        return f"{plain_name(call.boundary)}_{plain_name(call.phase)}{step}{user}"

    @property
    def title(self) -> str:
        """What is wrong, in one line with its numbers; or that nothing is."""
        found, shrunk = self.shrunk.seen, self.shrunk
        what = f"{shrunk.op} in {self.captured.call}" if shrunk.op else str(self.captured.call)
        against = "torch" if shrunk.op else "its reference"
        numbers = f"rel_l2 {found.comparison.rel_l2:.3g} against {against}"
        if math.isinf(found.factor):
            return f"{what}: {found.comparison.nonfinite_port} values are inf or nan that are finite in {against}"
        if not found.fails:
            return f"{what}: {numbers}, within the limit of {found.limit:.3g}"
        floor = shrunk.case.floor
        formats = "" if math.isnan(floor) else f" where its number formats cause {floor:.3g}"
        return f"{what}: {numbers}{formats}"

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the test reads: the program's leaves, the golden [T, C], and its places where they are not plain."""
        import torch

        case = self.shrunk.case
        held = {leaf.name: leaf.values.contiguous() for leaf in case.program.leaves.values()}
        held[GOLDEN] = case.golden_TC.float().contiguous()
        if block_of(case.places_TC) is None:
            held[PLACES] = case.places_TC.to(torch.int32).contiguous()
        return held

    def test(self) -> str:
        return test_text(self.name, self.title, self.shrunk.case, self.shrunk.seen, self.device)

    def about(self) -> str:
        """What `bundle.json` holds: what was run, on what, with which settings, and what was cut."""
        manifest, call, shrunk = self.run.manifest, self.captured.call, self.shrunk
        content = {
            "schema": SCHEMA,
            **vars(call),
            "module": self.captured.module,
            "reference_path": self.captured.reference_path,
            "op": shrunk.op,
            "ops": [op.name for op in shrunk.case.program.ops],
            "tensors": {
                leaf.name: {
                    "role": leaf.role,
                    "shape": list(leaf.values.shape),
                    "dtype": leaf.dtype,
                    "layout": leaf.layout,
                }
                for leaf in shrunk.case.program.leaves.values()
            },
            "limit_rel_l2": shrunk.case.limit,
            "floor_rel_l2": shrunk.case.floor,
            "seen": numbers_of(shrunk.seen),
            "seen_before_it_was_cut": numbers_of(self.whole),
            "seen_of_a_sound_port": None if shrunk.control is None else numbers_of(shrunk.control),
            "cut": [
                {"what": step.what, "before": numbers_of(step.before), "after": numbers_of(step.after)}
                for step in shrunk.steps
            ],
            "not_cut": list(shrunk.kept),
            "notes": list(self.captured.notes),
            "model": _chosen(manifest.model, _OF_MODEL),
            "device": _chosen(manifest.device, _OF_DEVICE),
            "precision": "decoder_config.json" if manifest.precision.endswith(".json") else manifest.precision,
            "hardware": manifest.hardware,
            "versions": installed_versions(),
        }
        return json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n"


def plain_name(text: str) -> str:
    """Foreign text as a part of a file's name and of a Python name: letters, digits and underscores."""
    return re.sub(r"\W", "_", text, flags=re.ASCII)[:80] or "_"


def numbers_of(found: Seen) -> dict[str, float]:
    """The metrics that a bundle speaks of."""
    comparison = found.comparison
    return {
        "rel_l2": comparison.rel_l2,
        "limit": found.limit,
        "pcc": comparison.pcc,
        "slope": comparison.slope,
        "max_abs_diff": comparison.max_abs_diff,
    }


def _chosen(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: content[name] for name in names if name in content}


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _without_nan(item) for name, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, (list, tuple)) else value
