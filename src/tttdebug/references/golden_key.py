# SPDX-License-Identifier: Apache-2.0
"""What a golden stands for: everything that decides the bits of a reference's activations, and how two differ.

S sequence, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.references.digest import digest_of_held, digest_of_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tttdebug.references.reference import Reference

SCHEMA = 1
"""Counts up whenever goldens are kept in another way, or another tensor is kept of the same boundary."""

_NOT_NUMBERS = ("_name_or_path", "name_or_path", "transformers_version")  # of a config: where it came from
_SHOWN = 24  # characters of a part in a sentence
_CPUINFO = Path("/proc/cpuinfo")
_VENDOR_LINES = ("vendor_id", "CPU implementer")


@dataclass(frozen=True)
class GoldenKey:
    """The parts that a golden is stored under, by name. Goldens of equal keys hold the same bits."""

    parts: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of all parts: the name of the golden's folder."""
        text = json.dumps(dict(self.parts), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]

    def differing(self, other: GoldenKey) -> tuple[str, ...]:
        """The names of the parts that are not the same in both."""
        names = dict.fromkeys((*self.parts, *other.parts))
        return tuple(name for name in names if self.parts.get(name) != other.parts.get(name))

    def against(self, now: GoldenKey) -> str:
        """How this golden's key differs from the one that is wanted: `torch (2.12.0 there, 2.13.0 now)`."""
        return ", ".join(
            f"{name} ({_short(self.parts.get(name))} there, {_short(now.parts.get(name))} now)"
            for name in self.differing(now)
        )


@dataclass(frozen=True)
class Tapped:
    """What is kept of each call: by boundary the module's path and which tensor of its output, and of each layer's
    cache its keys or values.
    """

    modules: Sequence[tuple[str, str, int | str | None]]
    caches: Sequence[tuple[str, int, str]]


def golden_keys(
    reference: Reference, inputs: Sequence[Tensor], decode_steps: int, tapped: Tapped
) -> tuple[GoldenKey, ...]:
    """The key of each prompt: of token ids [S], or of an image's pixels [C, H, W].

    Reads every parameter that the reference holds, so that one changed since it was loaded is not taken for it.
    """
    common = {
        **_of_reference(reference),
        "parameters": digest_of_held(reference.model),
        "decode_steps": str(decode_steps),
        "boundaries": _digest_of_json([tapped.modules, tapped.caches]),
    }
    return tuple(GoldenKey({"prompt": _prompt(each), **common}) for each in inputs)


def parts_as_loaded(reference: Reference, inputs: Tensor) -> dict[str, str]:
    """The parts of every golden of that prompt and of a reference that nobody changed since it was loaded."""
    return {"prompt": _prompt(inputs), **_of_reference(reference)}


def _of_reference(reference: Reference) -> dict[str, str]:
    model = reference.model
    first = next(parameter for parameter in model.parameters() if not parameter.is_meta)
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_NUMBERS}
    attention = getattr(model.config, "_attn_implementation", None)
    return {
        "schema": str(SCHEMA),
        "checkpoint": reference.weights_digest,
        "architecture": type(model).__name__,
        "config": _digest_of_json([config, attention]),
        "dtype": str(first.dtype).removeprefix("torch."),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "host": host_class(first.device),
        "settings": _settings(training=model.training),
    }


def host_class(device: torch.device) -> str:
    """What kind of machine computes there: two of one class give the same bits, however many threads they have."""
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{platform.machine()} {_vendor()} {torch.backends.cpu.get_cpu_capability()}"


def _vendor() -> str:
    """Who made the processor, as far as the system tells: libraries of matrix products go by that."""
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in _VENDOR_LINES:
                return value.strip()
    return platform.processor() or platform.system()


def _settings(*, training: bool) -> str:
    import torch

    said = [f"float32 matmul {torch.get_float32_matmul_precision()}"]
    said += ["deterministic"] if torch.are_deterministic_algorithms_enabled() else []
    said += [] if torch.backends.mkldnn.enabled else ["without oneDNN"]
    said += ["in training mode"] if training else []
    return ", ".join(said)


def _prompt(inputs: Tensor) -> str:
    """Token ids as they are, since a reader may want to see them; pixels by their digest."""
    return digest_of_tensor(inputs) if inputs.is_floating_point() else " ".join(map(str, inputs.tolist()))


def _digest_of_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def _short(part: str | None) -> str:
    if part is None:
        return "nothing"
    return part if len(part) <= _SHOWN else f"{part[:_SHOWN]}…"
