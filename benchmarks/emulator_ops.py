# SPDX-License-Identifier: Apache-2.0
"""What TTNN's numerics cost: each emulated op beside torch's own bfloat16 op on the same values.

    python benchmarks/emulator_ops.py [--engine fast|exact] [--tokens 128] [--repeats 9] [--device cpu|cuda]

The best of `--repeats` in one process, the ways taking turns. Packing is also given in GB of fp32 input per second; it
is set against torch's rounding to bfloat16. Products are also given in billions of multiplications per second, a phase
of the unit counting as one. The last lines say what the machine can do at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tttdebug.emulator import Device, open_device, ttnn

HIFI2 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
HIFI2_BF16_DEST = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2, packer_l1_acc=True)
EXACT_SDPA = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True
)


Kernel = ttnn.WormholeComputeKernelConfig | None


@dataclass(frozen=True)
class Duel:
    """An emulated op and torch's op of the same values; bytes or multiplications where throughput is of interest."""

    name: str
    emulated: Callable[[], object]
    torch_op: Callable[[], object]
    packed_bytes: int = 0
    multiplications: int = 0


def duels(device: Device, tokens: int) -> list[Duel]:
    """The ops of a decoder layer of 2048 with 32 query and 8 key/value heads, at `tokens` tokens."""
    place = device.torch_device

    def pair(*shape: int, dtype: ttnn.DataType = ttnn.bfloat16) -> tuple[ttnn.Tensor, Tensor]:
        x = torch.randn(shape, device=place)
        return ttnn.from_torch(x, dtype=dtype, layout=ttnn.TILE_LAYOUT, device=device), x.bfloat16()

    hidden, x = pair(1, 1, tokens, 2048)
    weight8, w = pair(2048, 2048, dtype=ttnn.bfloat8_b)
    weight4, _ = pair(2048, 2048, dtype=ttnn.bfloat4_b)
    gamma, g = pair(1, 2048)
    query, q = pair(1, 32, tokens, 64)
    key, k = pair(1, 8, tokens, 64)
    wide = torch.randn(2048, 2048, device=place)
    bf8, bf4 = ttnn.bfloat8_b.format, ttnn.bfloat4_b.format

    def linear(weight: ttnn.Tensor, kernel: Kernel = None) -> Callable[[], object]:
        return lambda: ttnn.linear(hidden, weight, compute_kernel_config=kernel)

    def norm(kernel: Kernel = None) -> Callable[[], object]:
        return lambda: ttnn.rms_norm(hidden, weight=gamma, compute_kernel_config=kernel)

    def attention(kernel: Kernel = None) -> Callable[[], object]:
        attend = ttnn.transformer.scaled_dot_product_attention
        return lambda: attend(query, key, key, compute_kernel_config=kernel)

    def torch_attention() -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)

    silu, products = [ttnn.UnaryOpType.SILU], tokens * 2048 * 2048
    return [
        Duel("pack bfloat8_b (host)", lambda: bf8.quantise(wide), wide.bfloat16, wide.nbytes),
        Duel("pack bfloat4_b (host)", lambda: bf4.quantise(wide), wide.bfloat16, wide.nbytes),
        Duel("pack bfloat8_b (device)", lambda: bf8.pack(wide), wide.bfloat16, wide.nbytes),
        Duel("linear bfloat8_b, HiFi2, fp32 Dest", linear(weight8, HIFI2), lambda: x @ w, 0, 2 * products),
        Duel(
            "linear bfloat8_b, HiFi2, bfloat16 Dest", linear(weight8, HIFI2_BF16_DEST), lambda: x @ w, 0, 2 * products
        ),
        Duel("linear bfloat4_b, default kernel", linear(weight4), lambda: x @ w, 0, 2 * products),
        Duel("add", lambda: ttnn.add(hidden, hidden), lambda: x + x),
        Duel(
            "multiply with fused silu",
            lambda: ttnn.multiply(hidden, hidden, input_tensor_a_activations=silu),
            lambda: F.silu(x) * x,
        ),
        Duel("gelu", lambda: ttnn.gelu(hidden), lambda: F.gelu(x)),
        Duel("rms_norm, HiFi2, fp32 Dest", norm(HIFI2), lambda: F.rms_norm(x, (2048,), g[0])),
        Duel("rms_norm, default kernel", norm(), lambda: F.rms_norm(x, (2048,), g[0])),
        Duel("softmax", lambda: ttnn.softmax(hidden), lambda: torch.softmax(x, -1)),
        Duel("attention, HiFi4, fp32 Dest", attention(EXACT_SDPA), torch_attention),
        Duel("attention, default kernel", attention(), torch_attention),
    ]


def seconds(way: Callable[[], object], place: torch.device) -> float:
    start = time.perf_counter()
    way()
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", choices=("fast", "exact"), default="fast")
    arguments = parser.parse_args()
    device = open_device(arguments.engine, torch_device=arguments.device)
    threads = torch.get_num_threads()
    table = Table(title=f"{arguments.engine}: {arguments.tokens} tokens, {device.torch_device}, {threads} threads")
    for heading in ("op", "emulated ms", "torch ms", "ratio", "GB/s", "G multiplications/s"):
        table.add_column(heading, justify="left" if heading == "op" else "right")
    for duel in duels(device, arguments.tokens):
        times = [
            (seconds(duel.emulated, device.torch_device), seconds(duel.torch_op, device.torch_device))
            for _ in range(arguments.repeats + 1)
        ][1:]
        ours, theirs = (min(column) for column in zip(*times, strict=True))
        rate = f"{duel.packed_bytes / ours / 1e9:.2f}" if duel.packed_bytes else ""
        speed = f"{duel.multiplications / ours / 1e9:.1f}" if duel.multiplications else ""
        table.add_row(duel.name, f"{ours * 1e3:.2f}", f"{theirs * 1e3:.2f}", f"{ours / theirs:.2f}", rate, speed)
    console = Console()
    console.print(table)
    console.print(limits(device.torch_device, arguments.repeats))


def limits(place: torch.device, repeats: int) -> str:
    """What the machine does at most: copying memory, and multiplying matrices in both types."""
    source = torch.randn(1 << 26, device=place)
    copied = min(seconds(source.clone, place) for _ in range(repeats))
    lines = [f"memory: {2 * source.nbytes / copied / 1e9:.1f} GB/s read and written"]
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.randn(2048, 2048, device=place, dtype=dtype)
        multiplied = min(seconds(lambda square=square: square @ square, place) for _ in range(repeats))
        lines.append(f"{dtype}: {2048**3 / multiplied / 1e9:.0f} G multiplications/s")
    return "at most: " + "; ".join(lines)


if __name__ == "__main__":
    main()
