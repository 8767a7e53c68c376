# SPDX-License-Identifier: Apache-2.0
"""Writes what the real ttnn is to be compared with.

PYTHONPATH=tests/modules:tests/ports:tests/references python tests/real_ttnn/write_cases.py FOLDER

Runs in an environment with torch and the emulator; the folder is then read where ttnn is, which needs no torch.
calls.json holds the calls of small ports, mesh.json those of a program on two devices, ops.json the emulated ops,
packing.npz inputs of the packers and their tiles.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from call_recorder import CallRecorder
from small_models import ENCODERS, MODELS
from tiny_llamas import tiny_llama

from tttdebug.backends import opened_device
from tttdebug.emulator import ttnn
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT8_B, BFLOAT16
from tttdebug.emulator.operation import OPS
from tttdebug.modules import CausalLM, EncoderModel, HardwareConfig, module, positions, rotary_embedding

FOREIGN = ("drive_ttt_llama", "ttt_qwen_style")  # modules of tests/ports
PRECISIONS = ("bf16", "accuracy", "performance")
PROMPT, USERS = 45, 2
SIDE = 1024  # elements along each side of the packing's input: 2^20 of them


def calls_of_ports() -> dict[str, list[dict[str, Any]]]:
    """Placing weights, prefill of two users and a decode step; of encoders, one call."""
    recorded = {}
    for name, spec in MODELS.items():
        for precision in PRECISIONS:
            recorded[f"{name}-{precision}"] = _calls(lambda device, spec=spec, p=precision: _generate(spec, device, p))
    for name, spec in ENCODERS.items():
        recorded[f"encoder-{name}"] = _calls(lambda device, spec=spec, name=name: _encode(spec, device, name))
    return recorded | {name: _calls_of_foreign(name) for name in FOREIGN}


def _calls(use: Any) -> list[dict[str, Any]]:
    recorder = CallRecorder(ttnn)
    takers = (module, positions, rotary_embedding)
    before = [taker.namespace_of for taker in takers]
    for taker in takers:
        taker.namespace_of = lambda device: recorder
    try:
        with opened_device("emulated") as device, torch.no_grad():
            use(device)
    finally:
        for taker, namespace_of in zip(takers, before, strict=True):
            taker.namespace_of = namespace_of
    return recorder.calls


def _calls_of_foreign(name: str) -> list[dict[str, Any]]:
    """Of a port that imports ttnn itself, as users' models do: prefill of a prompt and a decode step."""
    recorder = CallRecorder(ttnn)
    before = set(sys.modules)
    sys.modules["ttnn"] = recorder  # type: ignore[assignment]
    try:
        builder = import_module(name)
        with opened_device("emulated") as device, torch.no_grad():
            port = builder.build(tiny_llama(3, num_attention_heads=2, num_key_value_heads=1), device)
            driver = port if hasattr(port, "prefill") else builder
            own = () if driver is port else (port,)
            driver.prefill(*own, torch.arange(PROMPT)[None])
            driver.decode(*own, torch.tensor([5]), torch.tensor([PROMPT]))
    finally:
        for module_name in set(sys.modules) - before:
            if module_name == "ttnn" or module_name.removeprefix("drive_").startswith("ttt_"):
                del sys.modules[module_name]
    return recorder.calls


def _generate(spec: Any, device: Any, precision: str) -> None:
    model = CausalLM(spec, device=device, hw_config=HardwareConfig.preset(precision))
    model.allocate_cache(users=USERS, length=128)
    for user in range(USERS):
        model.prefill(torch.arange(PROMPT), user)
    model.decode(torch.tensor([5, 6]), torch.tensor([PROMPT, PROMPT]))


def _encode(spec: Any, device: Any, position: str) -> None:
    inputs = torch.zeros(3, 56, 56) if position == "pre" else torch.arange(20)
    EncoderModel(spec, device=device).encode(inputs)


def calls_on_a_mesh() -> list[dict[str, Any]]:
    """A feed-forward whose weights are cut over two devices, with every collective that puts its sums together."""
    recorder: Any = CallRecorder(ttnn)
    with opened_device("emulated", mesh="N300", fabric_config="FABRIC_1D") as mesh:
        whole, columns, rows, last = (
            recorder.create_mesh_mapper(mesh, recorder.MeshMapperConfig(row_dim=None, col_dim=dim))
            for dim in (None, 1, 0, 3)
        )

        def put(*shape: int, mapper: Any, dtype: Any = recorder.bfloat16) -> Any:
            return recorder.from_torch(
                torch.zeros(shape), dtype=dtype, layout=recorder.TILE_LAYOUT, device=mesh, mesh_mapper=mapper
            )

        x, gain = put(1, 1, 32, 128, mapper=whole), put(1, 1, 1, 128, mapper=whole)
        first = put(128, 256, mapper=columns, dtype=recorder.bfloat8_b)
        second = put(256, 128, mapper=rows, dtype=recorder.bfloat4_b)
        inner = recorder.silu(recorder.linear(recorder.rms_norm(x, weight=gain), first))
        partial = recorder.linear(inner, second)
        scattered = recorder.reduce_scatter(partial, dim=3)
        gathered = recorder.all_gather(scattered, dim=3)
        recorder.add(x, gathered)
        recorder.add(x, recorder.all_reduce(partial, cluster_axis=1))
        recorder.add(recorder.reduce_scatter(partial, dim=3, cluster_axis=1), scattered)
        recorder.multiply(x, put(1, 1, 32, 256, mapper=last))
        recorder.multiply(put(1, 1, 32, 256, mapper=last), x)
        recorder.get_device_tensors(gathered)
        recorder.deallocate(partial)
    return recorder.calls


def packing_inputs() -> dict[str, torch.Tensor]:
    """2^20 elements of each kind that a packer can stumble over, in the order of the tiles' rows."""
    g = torch.Generator().manual_seed(1)
    shape = (SIDE, SIDE)
    normal = torch.randn(shape, generator=g)
    wide = torch.randn(shape, generator=g) * torch.exp2(torch.rand(shape, generator=g) * 60 - 30)
    eighths = torch.randint(-(1 << 11), 1 << 11, shape, generator=g).float() / 16  # ties of every format among them
    bits = torch.randint(-(2**31), 2**31 - 1, shape, generator=g, dtype=torch.int64).to(torch.int32)
    near_two = torch.nextafter(torch.full(shape, 2.0), torch.zeros(shape)) * torch.exp2(
        torch.randint(-4, 5, shape, generator=g).float()
    )
    near_two *= torch.sign(normal)
    small = (bits & 0x00FFFFFF | (bits >> 31 << 31)).view(torch.float32)  # denormals, ±0 and the least normal numbers
    special = normal.clone()
    values = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 3.0e38, -3.4e38, 1e-45])
    some = torch.rand(shape, generator=g) < 0.02
    special[some] = values[torch.randint(0, len(values), (int(some.sum()),), generator=g)]
    finite = bits.view(torch.float32).nan_to_num(0.0, 0.0, 0.0)
    return {
        "normal": normal,
        "log_uniform": wide,
        "ties": eighths,
        "near_two": near_two,
        "denormal": small,
        "special": special,
        "any_finite_bits": finite,
    }


def packing() -> dict[str, np.ndarray[Any, Any]]:
    """Inputs, tiles of both block formats as the host packs them, what they unpack to, and bfloat16."""
    arrays = {}
    for name, x in packing_inputs().items():
        arrays[f"{name}/input"] = x.numpy()
        for block in (BFLOAT8_B, BFLOAT4_B):
            tiles = block.pack_bits(x)
            arrays[f"{name}/{block.name}"] = tiles.numpy()
            arrays[f"{name}/{block.name}/values"] = block.unpack_bits(tiles, tuple(x.shape)).float().numpy()
        arrays[f"{name}/bfloat16"] = BFLOAT16.quantise(x).view(torch.int16).numpy()
    return arrays


def emulated_ops() -> dict[str, list[str]]:
    """Every emulated op under its name in ttnn, and the names of its parameters."""
    return {
        name.removeprefix("ttnn."): [p.name for p in signature(op).parameters.values() if p.kind is not p.VAR_KEYWORD]
        for name, op in OPS.items()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    calls = calls_of_ports()
    (folder / "calls.json").write_text(json.dumps(calls))
    (folder / "mesh.json").write_text(json.dumps(calls_on_a_mesh()))
    (folder / "ops.json").write_text(json.dumps(emulated_ops()))
    np.savez(folder / "packing.npz", **packing())
    print(
        f"{sum(map(len, calls.values()))} calls of {len(calls)} ports, and packed tiles of {SIDE * SIDE} elements each"
    )
