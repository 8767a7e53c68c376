# SPDX-License-Identifier: Apache-2.0
"""Outputs of the real ttnn on disk, and the same calls made on the emulator.

A family is a pair of files: `NAME.json` lists cases (case, op, attrs, and inputs and outputs as maps from argument to
array name), `NAME.npz` holds the arrays. An array of uint16 holds bfloat16 patterns, float32 and integers themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tttdebug.emulator import ttnn
from tttdebug.emulator.device import Device
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import MathFidelity, WormholeComputeKernelConfig
from tttdebug.emulator.tensor import Tensor


@dataclass(frozen=True)
class Recording:
    """One call of the real ttnn: its arguments and what came out."""

    family: str
    name: str
    op: str
    attrs: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    output: torch.Tensor


@dataclass(frozen=True)
class Agreement:
    """How near emulated values e are to recorded ones r: shares of equal bits and of values within one unit in the
    last place of a bfloat16, the rms difference relative to the rms of r, and the slope ⟨r, e⟩ / ⟨r, r⟩."""

    equal: float
    within_one_ulp: float
    rms: float
    slope: float


def load_recordings(folder: Path, family: str) -> Iterator[Recording]:
    """The cases of one family in a folder."""
    cases = json.loads((folder / f"{family}.json").read_text())["cases"]
    with np.load(folder / f"{family}.npz") as arrays:
        for case in cases:
            inputs = {argument: _as_torch(arrays[name]) for argument, name in case["inputs"].items()}
            output = _as_torch(arrays[case["outputs"]["out"]])
            yield Recording(family, case["case"], case["op"], case["attrs"], inputs, output)


def replay(recording: Recording, device: Device) -> torch.Tensor:
    """The recorded call made on `device`, its output as a torch tensor of the recorded shape."""
    op = recording.op.split(" ")[0].split("->")[0]
    if op not in _REPLAYS:
        raise EmulatorError(f"recording {recording.name}: op {op!r} cannot be replayed")
    return ttnn.to_torch(_REPLAYS[op](recording, device)).reshape(recording.output.shape)


def compare(actual: torch.Tensor, recorded: torch.Tensor) -> Agreement:
    """How near `actual` is to `recorded`; zeros of both signs are equal, so are NaN."""
    if not recorded.is_floating_point():
        share = (actual.to(recorded.dtype) == recorded).float().mean().item()
        return Agreement(share, share, 0.0 if share == 1 else torch.inf, 1.0)
    a, r = actual.to(torch.float32), recorded.to(torch.float32)
    equal = (a == r) | (a.isnan() & r.isnan())
    distance = (_ordered(a) - _ordered(r)).abs()
    finite = a.isfinite() & r.isfinite()
    a64, r64 = a[finite].double(), r[finite].double()
    power = r64.square().sum()
    return Agreement(
        equal.float().mean().item(),
        (equal | (distance <= 1 << 16)).float().mean().item(),
        ((a64 - r64).square().sum() / power).sqrt().item() if power else 0.0,
        ((a64 * r64).sum() / power).item() if power else 1.0,
    )


def _ordered(x: torch.Tensor) -> torch.Tensor:
    """fp32 patterns as integers in the order of their values."""
    bits = x.contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _as_torch(array: np.ndarray) -> torch.Tensor:
    if array.dtype == np.uint16:
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(np.int64) if array.dtype == np.uint32 else array.copy())


def _upload(recording: Recording, device: Device, argument: str, dtype: str | None = None) -> Tensor:
    source = recording.inputs[argument]
    chosen = ttnn.DataType(dtype) if dtype else None
    return ttnn.from_torch(source, dtype=chosen, layout=ttnn.TILE_LAYOUT, device=device)


def _kernel(recording: Recording) -> WormholeComputeKernelConfig | None:
    config = recording.attrs.get("compute_kernel_config")
    if config is None:
        return None
    return WormholeComputeKernelConfig(**{**config, "math_fidelity": MathFidelity[config["math_fidelity"]]})


def _dtype(recording: Recording) -> ttnn.DataType | None:
    name = recording.attrs.get("dtype")
    return ttnn.DataType(name) if name else None


def _convert_on_host(recording: Recording, device: Device) -> Tensor:
    return ttnn.from_torch(recording.inputs["x"], dtype=_dtype(recording), layout=ttnn.TILE_LAYOUT)


def _typecast(recording: Recording, device: Device) -> Tensor:
    return ttnn.typecast(_upload(recording, device, "x", recording.attrs["src"]), dtype=_dtype(recording))


def _unary(recording: Recording, device: Device) -> Tensor:
    name = recording.op.removesuffix("_approx")
    options = {"fast_and_approximate_mode": True} if recording.op != name else {}
    return getattr(ttnn, name)(_upload(recording, device, "x"), **options)


def _binary(recording: Recording, device: Device) -> Tensor:
    attrs, factors = recording.attrs, (1.0, 1.0)
    if attrs.get("a") == attrs.get("b") == "float32":
        factors = (1.1, 1.3)  # as recorded: the stored inputs are before this
        inputs = {
            key: value.float() * torch.tensor(factor)
            for (key, value), factor in zip(recording.inputs.items(), factors, strict=True)
        }
        recording = Recording(recording.family, recording.name, recording.op, attrs, inputs, recording.output)
    a = _upload(recording, device, "a", attrs.get("a"))
    b = attrs["scalar"] if "scalar" in attrs else _upload(recording, device, "b", attrs.get("b"))
    fused = [f.lower() for f in attrs.get("input_tensor_a_activations", ())]
    return getattr(ttnn, recording.op)(a, b, dtype=_dtype(recording), input_tensor_a_activations=fused)


def _reduce(recording: Recording, device: Device) -> Tensor:
    attrs, x = recording.attrs, _upload(recording, device, "x")
    if recording.op == "softmax":
        return ttnn.softmax(x, attrs["dim"], compute_kernel_config=_kernel(recording))
    return getattr(ttnn, recording.op)(x, attrs["dim"], attrs["keepdim"])


def _norm(recording: Recording, device: Device) -> Tensor:
    parameters = {name: _upload(recording, device, name) for name in recording.inputs if name != "x"}
    return getattr(ttnn, recording.op)(
        _upload(recording, device, "x"),
        epsilon=recording.attrs["epsilon"],
        compute_kernel_config=_kernel(recording),
        **parameters,
    )


def _matmul(recording: Recording, device: Device) -> Tensor:
    attrs = recording.attrs
    options: dict[str, Any] = {"dtype": _dtype(recording), "compute_kernel_config": _kernel(recording)}
    if recording.op == "linear":
        options["activation"] = attrs.get("activation")
        options["bias"] = _upload(recording, device, "bias")
    a, b = _upload(recording, device, "a"), _upload(recording, device, "b", attrs.get("b_dtype"))
    return getattr(ttnn, recording.op)(a, b, **options)


def _attention(recording: Recording, device: Device) -> Tensor:
    attrs = recording.attrs
    q, k, v = (_upload(recording, device, name) for name in ("q", "k", "v"))
    program: ttnn.SDPAProgramConfig | None = None
    if attrs["q_chunk_size"] is not None:
        program = ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=attrs.get("grid", device.grid),
            q_chunk_size=attrs["q_chunk_size"],
            k_chunk_size=attrs["k_chunk_size"],
            exp_approx_mode=attrs["exp_approx_mode"],
        )
    options: dict[str, Any] = {"program_config": program, "compute_kernel_config": _kernel(recording)}
    if "cur_pos" in attrs:
        return ttnn.transformer.scaled_dot_product_attention_decode(q, k, v, cur_pos=attrs["cur_pos"], **options)
    return ttnn.transformer.scaled_dot_product_attention(q, k, v, is_causal=attrs["is_causal"], **options)


def _rotary(recording: Recording, device: Device) -> Tensor:
    return getattr(ttnn.experimental, recording.op)(*(_upload(recording, device, name) for name in recording.inputs))


def _fill_cache(recording: Recording, device: Device) -> Tensor:
    cache = _upload(recording, device, "cache", recording.attrs["dtype"])
    return ttnn.fill_cache(cache, _upload(recording, device, "x"), recording.attrs["batch_index"])


def _update_cache(recording: Recording, device: Device) -> Tensor:
    cache = _upload(recording, device, "cache", recording.attrs["dtype"])
    return ttnn.update_cache(cache, _upload(recording, device, "x"), recording.attrs["update_index"])


def _argmax(recording: Recording, device: Device) -> Tensor:
    x = ttnn.to_layout(_upload(recording, device, "x"), ttnn.ROW_MAJOR_LAYOUT)
    return ttnn.argmax(x, recording.attrs["dim"])


_REPLAYS: dict[str, Callable[[Recording, Device], Tensor]] = {
    "from_torch": _convert_on_host,
    "typecast": _typecast,
    **dict.fromkeys(("add", "subtract", "multiply", "divide"), _binary),
    **dict.fromkeys(("sum", "mean", "max", "softmax"), _reduce),
    **dict.fromkeys(("rms_norm", "layer_norm"), _norm),
    **dict.fromkeys(("matmul", "linear"), _matmul),
    **dict.fromkeys(("scaled_dot_product_attention", "scaled_dot_product_attention_decode"), _attention),
    **dict.fromkeys(("rotary_embedding", "rotary_embedding_llama"), _rotary),
    "fill_cache": _fill_cache,
    "update_cache": _update_cache,
    "argmax": _argmax,
    **dict.fromkeys(
        (
            "exp", "exp_approx", "exp2", "expm1", "log", "log1p", "reciprocal", "sqrt", "rsqrt", "square", "sigmoid",
            "silu", "gelu", "gelu_approx", "tanh", "relu", "relu6", "neg", "abs", "erf",
        ),
        _unary,
    ),
}  # fmt: skip
