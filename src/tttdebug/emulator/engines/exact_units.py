# SPDX-License-Identifier: Apache-2.0
"""The units bit by bit: every product, sum and function as the chip makes it."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines import matrix_unit
from tttdebug.emulator.engines import matrix_unit_elementwise as eltwise
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.fpu import scaler_tile, to_source
from tttdebug.emulator.formats import BFLOAT16, BlockFormat
from tttdebug.emulator.kernel import Arch, Kernel
from tttdebug.emulator.plans import MatmulPlan
from tttdebug.emulator.rounding import flush_denormals, to_bfloat16_ties_away, to_bfloat16_ties_even

# M rows, K summed, N columns


class ExactUnits:
    """The units of one chip."""

    def __init__(self, arch: Arch) -> None:
        self.wormhole = arch is Arch.WORMHOLE_B0

    def add(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        fp32 = kernel.fp32_dest
        return eltwise.add(to_source(a, fp32_dest=fp32), to_source(b, fp32_dest=fp32), fp32_dest=fp32)

    def subtract(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        return self.add(a, -b, kernel)

    def multiply(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        fp32 = kernel.fp32_dest
        a, b = to_source(a, fp32_dest=fp32), to_source(b, fp32_dest=fp32)
        return eltwise.multiply(a, b, phases=kernel.phases, fp32_dest=fp32)

    def matrix_product(self, a: Tensor, b: Tensor, plan: MatmulPlan, *, bias_follows: bool = False) -> Tensor:
        a, b = (to_source(x, fp32_dest=plan.kernel.fp32_dest) for x in (a, b))
        shape = (*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        if b.ndim == 2 or b.shape[:-2].numel() == 1:
            product = self._blocks(a.reshape(-1, a.shape[-1]), b.reshape(b.shape[-2:]), plan, bias_follows)
            return product.view(shape)
        pairs = zip(*(x.expand(*shape[:-2], *x.shape[-2:]).flatten(0, -3) for x in (a, b)), strict=True)
        return torch.stack([self._blocks(left, right, plan, bias_follows) for left, right in pairs]).view(shape)

    def _blocks(self, a_MK: Tensor, b_KN: Tensor, plan: MatmulPlan, bias_follows: bool) -> Tensor:
        """One product; rows that repeat the last one, as those of a batch's padding do, are multiplied once."""
        rows = _without_repetition(a_MK)
        product = self._sum_of_blocks(a_MK[:rows], b_KN, plan, bias_follows)
        if rows == len(a_MK):
            return product
        return torch.cat([product, product[-1:].expand(len(a_MK) - rows, -1)])

    def _sum_of_blocks(self, a_MK: Tensor, b_KN: Tensor, plan: MatmulPlan, bias_follows: bool) -> Tensor:
        """One product, its K blocks added as their partial sums rest between them."""
        blocking, kernel, partials = plan.blocking, plan.kernel, plan.partials
        if not blocking.l1_acc and not (isinstance(partials, BlockFormat) and blocking.blocks > 1):
            return self.into_dest(a_MK, b_KN, kernel)  # a partial sum is reloaded as it was
        width = blocking.in0_block_w * TILE
        spans = [slice(start, start + width) for start in range(0, a_MK.shape[1], width)]
        if not blocking.l1_acc:
            dest = self.into_dest(a_MK[:, spans[0]], b_KN[spans[0]], kernel)
            for span in spans[1:]:
                resting = partials.pack(dest).to(torch.float32)
                dest = self.into_dest(a_MK[:, span], b_KN[span], kernel, resting)
            return dest
        in_l1 = spans if bias_follows else spans[:-1]
        total = self.into_dest(a_MK[:, in_l1[0]], b_KN[in_l1[0]], kernel)
        for span in in_l1[1:]:
            total = flush_denormals(total + self.into_dest(a_MK[:, span], b_KN[span], kernel))
            if not kernel.fp32_dest:
                total = to_bfloat16_ties_even(total).to(torch.float32)
        return total if bias_follows else self.into_dest(a_MK[:, spans[-1]], b_KN[spans[-1]], kernel, total)

    def into_dest(self, a_MK: Tensor, b_KN: Tensor, kernel: Kernel, dest_MN: Tensor | None = None) -> Tensor:
        """a @ b on top of what is in Dest, nothing if not given; a fresh tensor. Operands are source registers'."""
        if dest_MN is None:
            dest_MN = torch.zeros(a_MK.shape[0], b_KN.shape[1], device=a_MK.device)
        matrix_unit.multiply_into(
            dest_MN, a_MK, b_KN, phases=kernel.phases, fp32_dest=kernel.fp32_dest, wormhole=self.wormhole
        )
        return dest_MN

    def sum_rows(self, x: Tensor, kernel: Kernel, scaler: float = 1.0, *, half_tiles: bool = False) -> Tensor:
        rows_KM = to_source(x, fp32_dest=kernel.fp32_dest).reshape(-1, x.shape[-1]).mT
        ones_1K = scaler_tile(scaler).to(x.device).expand(1, x.shape[-1])
        dest_1M = torch.zeros(1, rows_KM.shape[1], device=x.device)
        matrix_unit.multiply_into(
            dest_1M, ones_1K, rows_KM, phases=kernel.phases, fp32_dest=kernel.fp32_dest, wormhole=self.wormhole,
            left_source=matrix_unit.SRC_A, halves_first=half_tiles,
        )  # fmt: skip
        return dest_1M.view(*x.shape[:-1], 1)

    def sum_columns(self, x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
        """See Units; of a tile the upper half comes before the lower one, each through all phases."""
        columns_KN = to_source(x.movedim(-2, 0), fp32_dest=kernel.fp32_dest).reshape(x.shape[-2], -1)
        dest_1N = torch.zeros(1, columns_KN.shape[1], device=x.device)
        matrix_unit.multiply_into(
            dest_1N, scaler_tile(scaler).to(x.device).expand(1, x.shape[-2]), columns_KN, phases=kernel.phases,
            fp32_dest=kernel.fp32_dest, wormhole=self.wormhole, halves_first=True,
        )  # fmt: skip
        return dest_1N.view(*x.shape[:-2], 1, x.shape[-1])

    def exponential(self, x: Tensor, kernel: Kernel) -> Tensor:
        return sfpu.exp_fp32(x) if kernel.fp32_dest else sfpu.exp_bf16(x)

    def reciprocal(self, x: Tensor, kernel: Kernel) -> Tensor:
        return sfpu.reciprocal_fp32(x) if kernel.fp32_dest else BFLOAT16.pack(sfpu.reciprocal_bf16(x))

    def rsqrt(self, x: Tensor, kernel: Kernel) -> Tensor:
        root = sfpu.rsqrt_approx(x) if kernel.approx else sfpu.rsqrt(x)
        return root if kernel.fp32_dest else to_bfloat16_ties_away(root).to(torch.float32)


def _without_repetition(a_MK: Tensor) -> int:
    """How many rows there are up to the first of those at the end that are all equal."""
    different = (a_MK != a_MK[-1:]).any(-1).nonzero()
    return min(int(different[-1]) + 2 if len(different) else 1, len(a_MK))  # a row with a NaN differs from itself
