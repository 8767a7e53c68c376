# SPDX-License-Identifier: Apache-2.0
"""TT-Transformers' `decoder_config.json`: number formats and kernel settings per decoder layer, read and written.

{"decoders": {"31": {"precision_cfg": {"FF1_FF3": "BFP8"}, "fidelity_cfg": {"LI_FF1_FF3": "LOFI"}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from tttdebug.errors import SpecError
from tttdebug.modules.hardware import (
    HIFI2,
    HIFI2_FP16,
    HIFI2_NA,
    HIFI4,
    LOFI,
    SDPA_EXACT,
    ComputeKernel,
    HardwareConfig,
)

TENSOR_GROUPS = {
    "FF1_FF3": "ff1_ff3",
    "FF2": "ff2",
    "WQKV": "wqkv",
    "WO": "wo",
    "KV_CACHE": "kv_cache",
    "ACTIVATION": "activation",
}
OP_GROUPS = {
    "LI_FF1_FF3": "li_ff1_ff3",
    "LI_FF2": "li_ff2",
    "LI_QKV_PREFILL": "li_qkv",
    "LI_QKV_DECODE": "li_qkv_decode",
    "LI_O_PREFILL": "li_o",
    "LI_O_DECODE": "li_o_decode",
    "SDPA_PREFILL": "sdpa_prefill",
    "SDPA_DECODE": "sdpa_decode",
}
NOT_USED = ("ACCURACY",)  # a group that no op of the modules here belongs to
DTYPES = {"BFP4": "bfloat4_b", "BFP8": "bfloat8_b", "BF16": "bfloat16"}
KERNELS = {
    "LOFI": LOFI,
    "HIFI2": HIFI2,
    "HIFI2_NA": HIFI2_NA,
    "HIFI2_FP16": HIFI2_FP16,
    "HIFI4": HIFI4,
    "HIFI4_FP32": SDPA_EXACT,
}


def read_decoder_config(path: Path, base: HardwareConfig) -> HardwareConfig:
    """`base` with the file's settings in the layers that it names. Raises SpecError naming the entry at fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SpecError(f"{path} cannot be read as JSON ({error}); give a decoder_config.json") from None
    decoders = content.get("decoders") if isinstance(content, dict) else None
    if not isinstance(decoders, dict):
        raise SpecError(f'{path} has no "decoders", a layer number each; give a decoder_config.json')
    layers = []
    for number, settings in decoders.items():
        if not number.isdigit():
            raise SpecError(f"{path}: decoders has the key {number!r}; give layer numbers")
        layers.append((int(number), base.replace(**_changes(settings, f"{path}: decoders.{number}"))))
    return base.replace(name=path.stem, layers=tuple(sorted(layers, key=lambda layer: layer[0])))


def write_decoder_config(path: Path, config: HardwareConfig, num_layers: int) -> None:
    """Write every group of every layer. Raises SpecError for a setting that the file has no name for."""
    path.write_text(decoder_config_text(config, num_layers), encoding="utf-8")


def decoder_config_text(config: HardwareConfig, num_layers: int) -> str:
    """What `write_decoder_config` writes; raises as it does."""
    config.refuse_layers_beyond(num_layers)
    decoders = {str(layer): _settings(config.for_layer(layer)) for layer in range(num_layers)}
    return json.dumps({"decoders": decoders}, indent=2)


def with_layer_entry(config: HardwareConfig, layer: int, entry: Mapping[str, Any]) -> HardwareConfig:
    """`config` with one layer's entry of such a file, as a finding proposes it. Raises SpecError for a faulty entry."""
    changed = config.for_layer(layer).replace(**_changes(entry, f"the entry of layer {layer}"))
    return config.replace(layers=tuple(sorted({**dict(config.layers), layer: changed}.items())))


def kernel_name(kernel: ComputeKernel) -> str:
    """What the file calls a kernel setting; empty where it has no name for it."""
    return next((name for name, known in KERNELS.items() if known == kernel), "")


def _changes(settings: Any, where: str) -> dict[str, str | ComputeKernel]:
    if not isinstance(settings, Mapping):
        raise SpecError(f'{where} is {settings!r}; give {{"precision_cfg": …, "fidelity_cfg": …}}')
    if unknown := settings.keys() - {"precision_cfg", "fidelity_cfg"}:
        raise SpecError(f"{where} has {min(unknown)!r}; known are precision_cfg and fidelity_cfg")
    dtypes = _translated(settings.get("precision_cfg", {}), TENSOR_GROUPS, DTYPES, f"{where}.precision_cfg")
    return {**dtypes, **_translated(settings.get("fidelity_cfg", {}), OP_GROUPS, KERNELS, f"{where}.fidelity_cfg")}


def _translated(
    groups: Any, fields: Mapping[str, str], values: Mapping[str, Any], where: str
) -> dict[str, str | ComputeKernel]:
    if not isinstance(groups, Mapping):
        raise SpecError(f"{where} is {groups!r}; give a value for each group: {', '.join(fields)}")
    changes = {}
    for group, value in groups.items():
        if group in NOT_USED and fields is OP_GROUPS:
            logger.warning("{} sets {}, which no op here belongs to", where, group)
        elif group not in fields or value not in values:
            raise SpecError(
                f"{where} has {group}={value!r}; groups are {', '.join(fields)}, values {', '.join(values)}"
            )
        else:
            changes[fields[group]] = values[value]
    return changes


def _settings(config: HardwareConfig) -> dict[str, dict[str, str]]:
    return {
        "precision_cfg": {group: _name(config, field, DTYPES) for group, field in TENSOR_GROUPS.items()},
        "fidelity_cfg": {group: _name(config, field, KERNELS) for group, field in OP_GROUPS.items()},
    }


def _name(config: HardwareConfig, field: str, values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        if value == getattr(config, field):
            return name
    raise SpecError(
        f"{field}={getattr(config, field)} has no name in a decoder_config.json; it has {', '.join(values)}"
    )
