# SPDX-License-Identifier: Apache-2.0
"""How long all metrics of a pair take, beside ways that give its pcc alone. Run: python benchmarks/metrics.py

The pairs have the sizes of a SmolLM2-135M prefill of 512 tokens, of its logits, and of one decode step. Every
figure is the best of `--repeats` in one process, the ways taking turns: ratios say more than seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tttdebug.tracking.comparison import compare

Pairs = list[tuple[Tensor, Tensor]]


def pairs_of(shape: tuple[int, int], number: int) -> Pairs:
    """Seeded N(0, 1) references with ports that are off by 1 %."""
    generator = torch.Generator().manual_seed(0)
    references = [torch.randn(shape, generator=generator) for _ in range(number)]
    return [(reference, reference + 0.01 * torch.randn(shape, generator=generator)) for reference in references]


def all_metrics(reference: Tensor, port: Tensor) -> float:
    return compare(reference, port).pcc


def two_passes_float64(reference: Tensor, port: Tensor) -> float:
    r, t = reference.double().flatten(), port.double().flatten()
    r, t = r - r.mean(), t - t.mean()
    return float(r @ t / (r.norm() * t.norm()))


def corrcoef_float64(reference: Tensor, port: Tensor) -> float:
    return float(np.corrcoef(reference.double().numpy().ravel(), port.double().numpy().ravel())[0, 1])


WAYS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "compare: all metrics": all_metrics,
    "torch float64, two passes: pcc": two_passes_float64,
    "np.corrcoef float64: pcc": corrcoef_float64,
}


def best_seconds(pairs: Pairs, repeats: int) -> dict[str, float]:
    """Seconds for all pairs, for each way."""
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(repeats):
        for name, pcc in WAYS.items():
            start = time.perf_counter()
            for reference, port in pairs:
                pcc(reference, port)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    table = Table("pairs", "way", "ms per pair", "ns per element", "against two passes", title="Metrics of a pair")
    for label, shape, number in (
        ("200 × [512, 576]", (512, 576), 200),
        ("1 × [128, 49152]", (128, 49152), 1),
        ("200 × [1, 576]", (1, 576), 200),
    ):
        seconds = best_seconds(pairs_of(shape, number), arguments.repeats)
        two_passes = seconds["torch float64, two passes: pcc"]
        for way, value in seconds.items():
            per_pair = value / number
            per_element = per_pair / (shape[0] * shape[1])
            table.add_row(label, way, f"{per_pair * 1e3:.3f}", f"{per_element * 1e9:.1f}", f"{value / two_passes:.2f}×")
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
