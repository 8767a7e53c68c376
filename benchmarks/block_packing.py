# SPDX-License-Identifier: Apache-2.0
"""How fast tensors become block formats on one core, beside torch's copy of the same data and the memory's bandwidth.

    python benchmarks/block_packing.py [--millions 16] [--repeats 7]

`values` are what an emulated tensor holds (`quantise`, `pack`), `tiles` the bytes that the chip's memory would
(`pack_bits`). GB/s count the bytes read. The bandwidth is that of reading and writing an array far larger than the
caches. Compilation is timed apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from tttdebug.emulator import formats
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT8_B, Packer


def best(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of `repeats` calls after one."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def bandwidth(repeats: int) -> float:
    """Bytes per second of copying 256 MB over memory that is already there, both directions counted."""
    source, target = torch.zeros(1 << 26), torch.ones(1 << 26)
    return 2 * source.nbytes / best(lambda: target.copy_(source), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    formats._WORTH_COMPILING = 1 << 16  # so that values are made by the compiled loops, as those of large tensors are
    start = time.perf_counter()
    BFLOAT8_B.pack_bits(torch.zeros(32, 32))
    BFLOAT8_B.quantise(torch.zeros(256, 256))
    started = time.perf_counter() - start
    fp32 = torch.randn(arguments.millions * 1_000_000 // (4096 * 32) * 32, 4096)  # whole tiles
    table = Table(title=f"{fp32.numel() / 1e6:.1f} million elements, one thread, best of {arguments.repeats}")
    for heading in ("", "source", "ns / element", "GB/s read", "times torch's copy"):
        table.add_column(heading, justify="left" if heading in ("", "source") else "right")
    for x in (fp32, fp32.bfloat16()):
        copy = best(x.clone, arguments.repeats)
        ways: dict[str, Callable[[], object]] = {"torch's copy": x.clone}
        for form in (BFLOAT8_B, BFLOAT4_B):
            ways |= {
                f"{form.name} values, host": lambda x=x, form=form: form.quantise(x),
                f"{form.name} values, packer": lambda x=x, form=form: form.pack(x),
                f"{form.name} tiles, host": lambda x=x, form=form: form.pack_bits(x),
                f"{form.name} tiles, packer": lambda x=x, form=form: form.pack_bits(x, Packer.DEVICE),
            }
        for name, way in ways.items():
            seconds = best(way, arguments.repeats)
            speed, cost = x.nbytes / seconds / 1e9, seconds / x.numel() * 1e9
            table.add_row(
                name, str(x.dtype).removeprefix("torch."), f"{cost:.2f}", f"{speed:.2f}", f"{seconds / copy:.1f}"
            )
    console = Console(width=100)
    console.print(table)
    console.print(
        f"memory: {bandwidth(arguments.repeats) / 1e9:.1f} GB/s read and written; "
        f"starting the loops took {started:.2f} s"
    )


if __name__ == "__main__":
    main()
