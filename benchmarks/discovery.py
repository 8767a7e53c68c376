# SPDX-License-Identifier: Apache-2.0
"""How long it takes to find a port's modules and to pair them with a reference's. Run: python benchmarks/discovery.py

The port has about as many modules as asked for, in layers of eight, each with weights, configs and the device besides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tttdebug.emulator import ttnn
from tttdebug.tracking.discovery import discover
from tttdebug.tracking.pairing_plan import plan_pairs

PARTS = ("attention_norm", "attention", "ff_norm", "feed_forward", "q_norm", "k_norm", "rope_setup")


class Part:
    """A module as ports have them: weights, a config, a device, methods bound to the object."""

    def __init__(self, device: Any, **held: Any) -> None:
        self.weight = torch.zeros(1)
        self.lazy = [SimpleNamespace(source=torch.zeros(1), device=device, placed=None) for _ in range(3)]
        self.config = {"eps": 1e-5, "dims": [4096, 14336], "kernels": {str(i): i for i in range(10)}}
        self.device = device
        self.decode_forward = self.forward
        vars(self).update(held)

    def forward(self, x: Any) -> Any:
        return x


def port_of(layers: int) -> Part:
    device = ttnn.open_device(device_id=0)
    stack = [Part(device, **{name: Part(device) for name in PARTS}) for _ in range(layers)]
    for layer in stack:
        layer.attention.norms = (layer.q_norm, layer.k_norm)  # shared, and a way back
        layer.attention.layer = layer
    return Part(device, layers=stack, embedding=Part(device), norm=Part(device), lm_head=Part(device))


def reference_of(layers: int) -> nn.Module:
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=2
            )
        )


def best(repeats: int, act: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    table = Table("modules of the port", "of the reference", "discovery, s", "the whole plan, s", title="pairing")
    for count in arguments.modules:
        layers = max(1, count // (len(PARTS) + 1))
        port, reference = port_of(layers), reference_of(layers)
        found = len(discover(port).modules)
        there = sum(1 for _ in reference.modules())
        discovery = best(arguments.repeats, lambda port=port: discover(port))
        whole = best(1, lambda port=port, reference=reference: plan_pairs(port, reference))
        table.add_row(f"{found}", f"{there}", f"{discovery:.3f}", f"{whole:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
