# SPDX-License-Identifier: Apache-2.0
"""Outputs of the real ttnn on disk, and the same calls made on the emulator.

A family is a pair of files: `NAME.json` lists cases (case, op, attrs, and inputs and outputs as maps from argument to
array name), `NAME.npz` holds the arrays. An array of uint16 holds bfloat16 patterns, float32 and integers themselves.
Attrs are the op's keyword arguments, but for a few that describe the inputs or a config object; `call` knows those
and passes every other one to the op, which refuses what it does not take.
"""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
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

RECORDED_GRID = (8, 9)  # the compute grid of the recorded chip; it decides the program configs that ttnn picks


@dataclass(frozen=True)
class Recording:
    """One call of the real ttnn: its arguments and what came out.

    `position` is which of several outputs this is; a call with several of them is a recording for each.
    """

    family: str
    name: str
    op: str
    attrs: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    output: torch.Tensor
    arch: str = "wormhole_b0"
    position: int | None = None


def families(folder: Path) -> list[str]:
    """The names of the families that a folder holds, a pair of files each."""
    paths = sorted(folder.glob("*.npz"))
    return [path.stem for path in paths if path.with_suffix(".json").exists()]


def load_recordings(folder: Path, family: str) -> Iterator[Recording]:
    """The cases of one family in a folder. Raises EmulatorError when the files are damaged or of another format."""
    description = folder / f"{family}.json"
    try:
        described = json.loads(description.read_text())
        cases, arch = described["cases"], described.get("arch", "wormhole_b0")
        with np.load(folder / f"{family}.npz") as arrays:
            for case in cases:
                inputs = {argument: as_torch(arrays[name]) for argument, name in case["inputs"].items()}
                outputs, several = case["outputs"], len(case["outputs"]) > 1
                for i, (part, name) in enumerate(outputs.items()):
                    title = f"{case['case']}/{part}" if several else case["case"]
                    output, position = as_torch(arrays[name]), i if several else None
                    yield Recording(family, title, case["op"], case["attrs"], inputs, output, arch, position)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise EmulatorError(f"{description}: not a family of recordings ({what})") from error


def as_torch(array: np.ndarray) -> torch.Tensor:
    """An array of a recording: uint16 are bfloat16 patterns."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(np.int64) if array.dtype == np.uint32 else array.copy())


def values_of(output: Tensor, recording: Recording) -> torch.Tensor:
    """The output of a replayed call as a torch tensor of the recorded shape."""
    values = ttnn.to_torch(output)
    if values.numel() != recording.output.numel():
        recorded = list(recording.output.shape)
        raise EmulatorError(f"recording {recording.name}: {recording.op} gave {output.shape}, recorded is {recorded}")
    return values.reshape(recording.output.shape)


def call(recording: Recording, device: Device) -> Tensor:
    """The recorded call made on `device`. Raises EmulatorError when the emulator has no such op or argument."""
    name = recording.op.split(" ")[0].split("->")[0]
    if name == "from_torch":
        form = _dtype(recording.attrs["dtype"])
        return ttnn.from_torch(recording.inputs["x"], dtype=form, layout=ttnn.TILE_LAYOUT)
    function, keywords = _function(name)
    parameters = inspect.signature(function).parameters
    dtypes = _input_dtypes(recording, "dtype" in parameters)
    positional = []
    layout = ttnn.ROW_MAJOR_LAYOUT if recording.attrs.get("layout") == "ROW_MAJOR" else ttnn.TILE_LAYOUT
    for argument, source in _as_recorded(recording).items():
        tensor = ttnn.from_torch(source, dtype=dtypes.get(argument), layout=layout, device=device)
        keyword = _RENAMED.get(argument, argument)
        if keyword in parameters and parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY:
            keywords[keyword] = tensor
        else:
            positional.append(tensor)
    for attribute, value in _keywords(recording, device, "dtype" in parameters).items():
        if attribute == "scalar" and "scalar" not in parameters:
            positional.append(value)
        else:
            keywords[attribute] = value
    output: Any = function(*positional, **keywords)
    return output if recording.position is None else output[recording.position]


# Attrs that tell something about the inputs or about how the recording was made.
_DESCRIPTIVE = frozenset({"exhaustive", "broadcast", "layout", "src"})
_OF_ATTENTION = frozenset({"q_chunk_size", "k_chunk_size", "exp_approx_mode", "grid"})
# Names of attrs and inputs that the ops call otherwise.
_RENAMED = {
    "batch_index": "batch_idx",
    "update_index": "update_idx",
    "mask": "attn_mask",
    "residual": "residual_input_tensor",
}


def _function(name: str) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The op of that name in any part of the namespace, and the keywords that the name implies."""
    for stem, keywords in ((name, {}), (name.removesuffix("_approx"), {"fast_and_approximate_mode": True})):
        for part in (ttnn, ttnn.transformer, ttnn.experimental):
            if callable(vars(part).get(stem)):
                return vars(part)[stem], dict(keywords)
        if name == stem and not name.endswith("_approx"):
            break
    raise EmulatorError(f"op {name!r} is not emulated")


def _input_dtypes(recording: Recording, takes_dtype: bool) -> dict[str, ttnn.DataType]:
    """The data types that attrs give inputs: by name; the first one's also as `src`, or a `dtype` of no argument."""
    dtypes = {}
    for argument in recording.inputs:
        named = recording.attrs.get(f"{argument}_dtype", recording.attrs.get(argument))
        if named is not None:
            dtypes[argument] = _dtype(named)
    first = next(iter(recording.inputs), None)
    if first is not None and "src" in recording.attrs:
        dtypes[first] = _dtype(recording.attrs["src"])
    if first is not None and "dtype" in recording.attrs and not takes_dtype:
        dtypes[first] = _dtype(recording.attrs["dtype"])
    return dtypes


def _keywords(recording: Recording, device: Device, takes_dtype: bool) -> dict[str, Any]:
    """The attrs as keyword arguments of the op; those at None are left to the op."""
    attrs = recording.attrs
    keywords = {}
    for name, value in attrs.items():
        of_an_input = name.removesuffix("_dtype") in recording.inputs
        if value is None or name in _DESCRIPTIVE or name in _OF_ATTENTION or of_an_input:
            continue
        if name == "dtype" and not takes_dtype:
            continue
        convert = _CONVERTED.get(name, lambda given: given)
        keywords[_RENAMED.get(name, name)] = convert(value)
    if attrs.get("q_chunk_size") is not None:
        keywords["program_config"] = ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=attrs.get("grid") or device.grid,
            q_chunk_size=attrs["q_chunk_size"],
            k_chunk_size=attrs["k_chunk_size"],
            exp_approx_mode=attrs.get("exp_approx_mode"),
        )
    return keywords


def _as_recorded(recording: Recording) -> Mapping[str, torch.Tensor]:
    """The inputs; those of `add_*_f32` were multiplied by 1.1 and 1.3 in fp32 after they were stored."""
    name = recording.name
    if recording.family != "binary" or not (name.startswith("add_") and name.endswith("_f32")):
        return recording.inputs
    factors = (torch.tensor(factor) for factor in (1.1, 1.3))
    return {key: x.float() * factor for (key, x), factor in zip(recording.inputs.items(), factors, strict=False)}


def _dtype(name: str) -> ttnn.DataType:
    try:
        return ttnn.DataType(name)
    except ValueError:
        raise EmulatorError(f"data type {name!r} is not emulated") from None


def _kernel(config: dict[str, Any]) -> WormholeComputeKernelConfig:
    fidelity = config.get("math_fidelity", "Invalid")
    if fidelity not in MathFidelity.__members__:
        raise EmulatorError(f"compute_kernel_config has math_fidelity={fidelity!r}; there is no such fidelity")
    try:
        return WormholeComputeKernelConfig(**{**config, "math_fidelity": MathFidelity[fidelity]})
    except TypeError as error:
        raise EmulatorError(f"compute_kernel_config={config!r}: {error}") from None


def _functions(names: list[str]) -> list[str]:
    return [name.lower() for name in names]


def _core_grid(sizes: dict[str, int] | list[int]) -> ttnn.CoreGrid:
    x, y = (sizes["x"], sizes["y"]) if isinstance(sizes, dict) else sizes
    return ttnn.CoreGrid(x=x, y=y)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "compute_kernel_config": _kernel,
    "dtype": _dtype,
    "core_grid": _core_grid,
    "activation": str.lower,
    **dict.fromkeys(("activations", "input_tensor_a_activations", "input_tensor_b_activations"), _functions),
}
