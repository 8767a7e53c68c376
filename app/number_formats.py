# SPDX-License-Identifier: Apache-2.0
"""The number formats and math fidelities of a port, place by place, what they cost, and what findings would change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from places import place_of
from tttdebug.analysis.explanation import Explanation
from tttdebug.errors import SpecError
from tttdebug.modules.decoder_config import kernel_name, with_layer_entry
from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
from tttdebug.reporting.format_costs import formats_of
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.opened_run import OpenedRun, SavedRecords

_LAYER = re.compile(r"L(\d+)\.")


@dataclass(frozen=True)
class Setting:
    """One setting of a hardware config: its name there, in a decoder_config.json ("" where it has none there), and the
    kinds of boundary that it acts on.
    """

    field: str
    group: str
    kinds: tuple[str, ...]
    about: str

    @property
    def name(self) -> str:
        return self.group or self.field

    def acts_on(self, boundary: str) -> bool:
        kind = kind_of(boundary)
        return kind in self.kinds or ("norm" in self.kinds and kind.endswith("norm"))


_FFN = ("mlp", "shared_expert")
_CACHES = ("k_cache", "v_cache")
FORMATS = (
    Setting("embedding", "", ("embed",), "the table of embeddings"),
    Setting("norm", "", ("norm",), "the weights of norms"),
    Setting("wqkv", "WQKV", ("self_attn",), "the weights that make queries, keys and values"),
    Setting("kv_cache", "KV_CACHE", _CACHES, "keys and values as the cache keeps them"),
    Setting("wo", "WO", ("self_attn",), "the weight of attention's output"),
    Setting("router", "", ("router",), "the weight that scores experts"),
    Setting("ff1_ff3", "FF1_FF3", _FFN, "the weights gate (w1) and up (w3)"),
    Setting("ff2", "FF2", _FFN, "the weight down (w2)"),
    Setting("activation", "ACTIVATION", ("layer_out",), "what goes from module to module"),
    Setting("lm_head", "", ("logits",), "the weight that makes the logits"),
)
KERNELS = (
    Setting("norms", "", ("norm",), "norms"),
    Setting("li_qkv", "LI_QKV_PREFILL", ("self_attn",), "queries, keys and values, in prefill"),
    Setting("li_qkv_decode", "LI_QKV_DECODE", ("self_attn",), "queries, keys and values, in decode"),
    Setting("sdpa_prefill", "SDPA_PREFILL", ("self_attn",), "scores, softmax and their mixture, in prefill"),
    Setting("sdpa_decode", "SDPA_DECODE", ("self_attn",), "scores, softmax and their mixture, in decode"),
    Setting("li_o", "LI_O_PREFILL", ("self_attn",), "attention's output, in prefill"),
    Setting("li_o_decode", "LI_O_DECODE", ("self_attn",), "attention's output, in decode"),
    Setting("li_router", "", ("router",), "the scores of experts"),
    Setting("li_ff1_ff3", "LI_FF1_FF3", _FFN, "gate and up"),
    Setting("li_ff2", "LI_FF2", _FFN, "down"),
    Setting("li_lm_head", "", ("logits",), "the logits"),
)
SHORT = {"bfloat4_b": "4", "bfloat8_b": "8", "bfloat16": "16", "float32": "32"}
"""The labels of formats on the map, from coarse to fine."""
SHORT_FIDELITY = {"LoFi": "Lo", "HiFi2": "2", "HiFi3": "3", "HiFi4": "4"}
LOW_SUMS = "*"
"""Marks sums that are kept in bfloat16."""


@dataclass(frozen=True)
class Proposal:
    """An entry of a decoder_config.json that a finding proposes: for which boundary, the groups that it sets, and
    whether the run declares just that, so that the port does not keep to it.
    """

    boundary: str
    groups: tuple[str, ...]
    declared: bool


def layer_of(boundary: str) -> int | None:
    """The number of the layer that a boundary belongs to."""
    found = _LAYER.match(boundary)
    return int(found[1]) if found else None


def own_config(config: HardwareConfig, boundary: str) -> HardwareConfig:
    """What holds at a boundary."""
    layer = layer_of(boundary)
    return config if layer is None else config.for_layer(layer)


def settings_cells(
    settings: Sequence[Setting], boundaries: Sequence[str], config: HardwareConfig, before: HardwareConfig
) -> pd.DataFrame:
    """A row a setting and place: setting, place, boundary, value, label, detail, changed (from what `before` has)."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for boundary in boundaries:
        here, was = own_config(config, boundary), own_config(before, boundary)
        for setting in settings:
            if not setting.acts_on(boundary) or (setting.name, place_of(boundary)) in rows:
                continue
            value = getattr(here, setting.field)
            rows[setting.name, place_of(boundary)] = {
                "setting": setting.name,
                "place": place_of(boundary),
                "boundary": boundary,
                "value": value.math_fidelity if isinstance(value, ComputeKernel) else value,
                "label": _label(value),
                "detail": described(value),
                "about": setting.about,
                "changed": value != getattr(was, setting.field),
            }
    return pd.DataFrame(list(rows.values()))


def described(value: str | ComputeKernel) -> str:
    """A setting's value in words."""
    if not isinstance(value, ComputeKernel):
        return value
    parts = [
        value.math_fidelity,
        "sums in fp32" if value.fp32_dest_acc_en else "sums in bfloat16",
        *(["adds up in L1"] if value.packer_l1_acc else []),
        *(["approximate functions"] if value.math_approx_mode else []),
    ]
    name = kernel_name(value)
    return ", ".join(parts) + (f" ({name})" if name else "")


def proposed(explanation: Explanation | None, config: HardwareConfig) -> tuple[HardwareConfig, list[Proposal]]:
    """`config` with every entry of a decoder_config.json that findings propose, and these entries."""
    found = []
    for finding in explanation or ():
        layer = layer_of(finding.boundary)
        if finding.fix is None or not finding.fix.settings or layer is None:
            continue
        try:
            changed = with_layer_entry(config, layer, finding.fix.settings)
        except SpecError:  # shown with its finding as it is; no file could hold it
            continue
        groups = tuple(str(group) for part in finding.fix.settings.values() for group in part)
        found.append(Proposal(finding.boundary, groups, changed.for_layer(layer) == config.for_layer(layer)))
        config = changed
    return config, found


def costs(run: OpenedRun, records: SavedRecords, alone: SavedRecords | None) -> pd.DataFrame:
    """A row a kind of module in one call: its formats, its floor, its error alone and in the run (medians), its worst.

    `alone` has the isolated records of the call; what stands for the worst is the error alone where it is known.
    """
    frame = _errors(records).rename(columns={"rel_l2": "in the run"})
    if alone is not None:
        own = _errors(alone).set_index("boundary")
        frame["alone"] = frame["boundary"].map(own["rel_l2"])
        frame["floor alone"] = frame["boundary"].map(own["floor"])
    judged, floor = ("alone", "floor alone") if alone is not None else ("in the run", "floor")
    rows = []
    for kind, group in frame.groupby("kind", sort=False):
        ratio = (group[judged] / group[floor]).replace(np.inf, np.nan)
        worst = group.loc[ratio.idxmax()] if ratio.notna().any() else group.iloc[0]
        rows.append(
            {
                "module": kind,
                "formats": formats_of(str(kind), run.manifest.hardware),
                "predicted": group[floor].median(),
                **({"alone": group["alone"].median()} if alone is not None else {}),
                "in the run": group["in the run"].median(),
                "worst": worst["boundary"],
                "× floor": ratio.max(),
            }
        )
    return pd.DataFrame(rows)


def _errors(records: SavedRecords) -> pd.DataFrame:
    boundaries = records.column("boundary")
    return pd.DataFrame(
        {
            "boundary": boundaries,
            "kind": [kind_of(boundary) for boundary in boundaries],
            "rel_l2": records.column("rel_l2"),
            "floor": records.column("floor_rel_l2"),
        }
    )


def _label(value: str | ComputeKernel) -> str:
    if not isinstance(value, ComputeKernel):
        return SHORT.get(value, "?")
    return SHORT_FIDELITY.get(value.math_fidelity, "?") + ("" if value.fp32_dest_acc_en else LOW_SUMS)
