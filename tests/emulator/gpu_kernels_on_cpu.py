# SPDX-License-Identifier: Apache-2.0
"""Run by test_matrix_unit.py in a process of its own: the Triton kernels, interpreted, beside the compiled loops."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import torch

from tttdebug.emulator.engines import matrix_unit, matrix_unit_elementwise, matrix_unit_gpu

SOURCES = {True: matrix_unit.SRC_A, False: matrix_unit.SRC_B}


def operands(spread):
    a = torch.ldexp(torch.randn(3, 40), (torch.randn(3, 40) * spread).int())
    b = torch.ldexp(torch.randn(40, 5), (torch.randn(40, 5) * spread).int())
    a[torch.rand(a.shape) < 0.1] = 0
    if spread > 50:
        a[0, 0] = torch.inf
    return a, b


def same(x, y, *what):
    if not torch.equal(x.view(torch.int32), y.view(torch.int32)):
        raise SystemExit(f"{what}: {x} is not {y}")


torch.manual_seed(int(os.environ.get("SEED", "0")))
for spread, phases, fp32, left_is_a, wormhole in [
    (1, 4, True, False, True), (20, 2, False, False, False), (60, 3, True, True, False), (60, 1, False, True, True),
]:  # fmt: skip
    a, b = operands(spread)
    start = torch.randn(3, 5).bfloat16().float()
    by_loops, by_kernels = start.clone(), start.clone()
    how = {"phases": phases, "fp32_dest": fp32, "wormhole": wormhole, "halves_first": left_is_a}
    matrix_unit.multiply_into(by_loops, a, b, left_source=SOURCES[left_is_a], **how)
    matrix_unit_gpu.multiply_into(by_kernels, a, b, left_is_source_a=left_is_a, **how)
    same(by_kernels, by_loops, "products", spread, phases, fp32)
    row = a[:1]
    for how in ({"fp32_dest": fp32}, {"fp32_dest": fp32, "phases": phases}):
        name = "multiply" if "phases" in how else "add"
        loops, kernels = (getattr(m, name) for m in (matrix_unit_elementwise, matrix_unit_gpu))
        same(kernels(a, row, **how), loops(a, row, **how), name, spread)
print("same bits")
