# SPDX-License-Identifier: Apache-2.0
"""What a spec leaves open and the hardware decides: number formats, kernel settings, fusion, memory.

The names of tensor groups, kernel settings and presets are those of TT-Transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.backends import describe_device
from tttdebug.errors import SpecError
from tttdebug.modules.matmul_programs import Policy

if TYPE_CHECKING:
    from tttdebug.modules.decisions import Decision
    from tttdebug.specs import ModuleSpec


@dataclass(frozen=True)
class ComputeKernel:
    """The settings of a compute kernel: how many fidelity phases, which accumulator, which accumulation in L1."""

    math_fidelity: str
    math_approx_mode: bool
    fp32_dest_acc_en: bool
    packer_l1_acc: bool

    def to_ttnn(self, ttnn: Any) -> Any:
        """The same as a compute kernel config of the given ttnn namespace."""
        return ttnn.WormholeComputeKernelConfig(
            math_fidelity=getattr(ttnn.MathFidelity, self.math_fidelity),
            math_approx_mode=self.math_approx_mode,
            fp32_dest_acc_en=self.fp32_dest_acc_en,
            packer_l1_acc=self.packer_l1_acc,
        )


FIDELITIES = ("HiFi4", "HiFi3", "HiFi2", "LoFi")
"""From the finest to the coarsest."""

#                        fidelity  approx  fp32   l1_acc
LOFI = ComputeKernel("LoFi", False, False, True)
HIFI2 = ComputeKernel("HiFi2", True, True, True)
HIFI2_FP16 = ComputeKernel("HiFi2", False, False, True)
HIFI2_NA = ComputeKernel("HiFi2", True, False, False)
HIFI4 = ComputeKernel("HiFi4", False, True, True)
SDPA_EXACT = ComputeKernel("HiFi4", False, True, False)
NORM = ComputeKernel("HiFi2", False, True, True)


@dataclass(frozen=True)
class HardwareConfig:
    """How a model is put on the chip. The defaults are the `accuracy` preset.

    Weight groups hold dtype names (`bfloat16`, `bfloat8_b`, `bfloat4_b`), op groups (`li_` for linear) kernel settings.
    `matmul_programs` is `by_size` (see matmul_programs.py) or `automatic`, which leaves to ttnn every product but those
    of wide models whose output stays in L1: there the program says how it is cut up.
    """

    name: str = "accuracy"
    wqkv: str = "bfloat8_b"
    wo: str = "bfloat8_b"
    ff1_ff3: str = "bfloat8_b"
    ff2: str = "bfloat8_b"
    lm_head: str = "bfloat8_b"
    embedding: str = "bfloat16"
    norm: str = "bfloat16"
    activation: str = "bfloat16"
    kv_cache: str = "bfloat8_b"
    bias: str = "bfloat16"
    router: str = "bfloat16"
    li_qkv: ComputeKernel = HIFI2
    li_o: ComputeKernel = HIFI2
    li_qkv_decode: ComputeKernel = HIFI2
    li_o_decode: ComputeKernel = HIFI2
    li_ff1_ff3: ComputeKernel = HIFI2_FP16
    li_ff2: ComputeKernel = HIFI2_FP16
    li_lm_head: ComputeKernel = HIFI2
    li_embedding: ComputeKernel = HIFI4
    li_router: ComputeKernel = HIFI4
    norms: ComputeKernel = NORM
    sdpa_prefill: ComputeKernel = SDPA_EXACT
    sdpa_decode: ComputeKernel = HIFI2
    fuse_qkv: bool = True
    matmul_programs: Policy = "by_size"
    layers: tuple[tuple[int, HardwareConfig], ...] = ()

    @classmethod
    def preset(cls, name: str) -> HardwareConfig:
        """`accuracy` (bfloat8_b weights), `performance` (bfloat4_b and LoFi in FF1/FF3), or `bf16` (bfloat16, HiFi4).

        Or by a hint of what matters: `high` (bf16), `balanced` or `auto` (accuracy), `fast` (performance).
        Raises SpecError for another name.
        """
        if name not in {**PRESETS, **HINTS}:
            raise SpecError(f"unknown precision {name!r}: choose one of {', '.join([*PRESETS, *HINTS])}")
        return PRESETS[HINTS.get(name, name)]

    @classmethod
    def named(cls, precision: str) -> HardwareConfig:
        """The preset or hint of that name, or what a `decoder_config.json` at that path says.

        Raises SpecError for neither.
        """
        return cls.from_decoder_config(precision) if precision.endswith(".json") else cls.preset(precision)

    @classmethod
    def for_device(cls, device: Any) -> HardwareConfig:
        """What suits an open device best: `bf16` where formats cost nothing (the ideal engine), else `accuracy`."""
        return cls.preset("bf16" if describe_device(device).engine == "ideal" else "accuracy")

    @classmethod
    def from_decoder_config(cls, path: str | Path, base: str = "accuracy") -> HardwareConfig:
        """What TT-Transformers' `decoder_config.json` says layer by layer; what it does not say is the preset's.

        Raises SpecError, naming the file and the entry, for one that cannot be read.
        """
        from tttdebug.modules.decoder_config import read_decoder_config

        return read_decoder_config(Path(path), cls.preset(base))

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> HardwareConfig:
        """The config that `to_dict` described, also after JSON. Raises SpecError for a part that is missing or new."""
        return _read_back(cls, described)

    def write_decoder_config(self, path: str | Path, num_layers: int) -> None:
        """Write what this config decides for each of `num_layers` layers as a `decoder_config.json`."""
        from tttdebug.modules.decoder_config import write_decoder_config

        write_decoder_config(Path(path), self, num_layers)

    def explain(self, spec: ModuleSpec, device: Any, prompt_length: int = 128) -> tuple[Decision, ...]:
        """Each decision for a module, layer or model on that device, and why; for prompts of such a length."""
        from tttdebug.modules.decisions import explain

        return explain(self, spec, device, prompt_length)

    def for_layer(self, layer: int) -> HardwareConfig:
        """The config of one layer."""
        return dict(self.layers).get(layer, self)

    def refuse_layers_beyond(self, num_layers: int) -> None:
        """Raise SpecError when this config speaks of layers that a model of so many layers has not."""
        if beyond := [layer for layer, _ in self.layers if layer >= num_layers]:
            raise SpecError(
                f"hardware config {self.name} sets layer {max(beyond)}, but the model has layers 0 to "
                f"{num_layers - 1}: it was made for another model, or remove those entries"
            )

    def replace(self, **changes: Any) -> HardwareConfig:
        """A copy with some decisions changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All decisions, JSON-ready."""
        return asdict(self)


def _read_back(kind: type[Any], described: Any) -> Any:
    """A dataclass of defaults, or of scalars alone, from its `asdict`."""
    parts = {each.name: each for each in fields(kind)}
    if not isinstance(described, Mapping) or described.keys() != parts.keys():
        odd = sorted(map(str, described.keys() ^ parts.keys())) if isinstance(described, Mapping) else [repr(described)]
        raise SpecError(f"not a {kind.__name__} of this version, missing or unknown: {', '.join(odd)}")
    values = dict(described)
    for name, part in parts.items():
        if isinstance(part.default, ComputeKernel):
            values[name] = _read_back(ComputeKernel, values[name])
        elif name == "layers":
            values[name] = tuple((layer, _read_back(kind, own)) for layer, own in values[name])
        elif not isinstance(values[name], (str, bool)):
            raise SpecError(f"{kind.__name__}.{name} is {values[name]!r}, neither a name nor a switch")
    return kind(**values)


PRESETS = {
    "accuracy": HardwareConfig(),
    "performance": HardwareConfig(name="performance", ff1_ff3="bfloat4_b", li_ff1_ff3=LOFI),
    "bf16": HardwareConfig(
        name="bf16",
        wqkv="bfloat16",
        wo="bfloat16",
        ff1_ff3="bfloat16",
        ff2="bfloat16",
        lm_head="bfloat16",
        kv_cache="bfloat16",
        li_qkv=HIFI4,
        li_o=HIFI4,
        li_qkv_decode=HIFI4,
        li_o_decode=HIFI4,
        li_ff1_ff3=HIFI4,
        li_ff2=HIFI4,
        li_lm_head=HIFI4,
        norms=HIFI4,
        sdpa_decode=HIFI4,
    ),
}
HINTS = {"auto": "accuracy", "high": "bf16", "balanced": "accuracy", "fast": "performance"}
"""Presets by a hint of what matters."""
