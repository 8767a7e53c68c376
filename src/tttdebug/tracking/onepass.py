# SPDX-License-Identifier: Apache-2.0
"""Reads two tensors once, in chunks that stay in the cache, and gathers everything the metrics are made of."""

# T tokens, R rows of a chunk (whole tokens, or one part of a token), V values of a row, N = R·V

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tttdebug.tracking.moments import Moments
from tttdebug.tracking.profile import Greatest, nothing_yet, with_greatest
from tttdebug.tracking.ulp import INFINITELY_FAR, counted, ulp_distances_

CHUNK_ON_CPU = 1 << 17
CHUNK_ON_GPU = 1 << 22


@dataclass(frozen=True)
class PairSums:
    """What one pass gives: moments per token, two histograms, and the positions of the greatest errors."""

    tokens: Moments
    ulp_counts: np.ndarray
    octave_counts: np.ndarray
    worst_positions: np.ndarray  # in the order of the tensor as it was read, token dim first
    nonfinite_reference: int
    nonfinite_port: int
    nonfinite_masks_agree: bool


def one_pass(reference_T: Tensor, port_T: Tensor, chunk: int | None = None) -> PairSums:
    """The sums of two non-empty tensors of one shape whose first dim is the token, `chunk` elements at a time.

    Works on the reference's device (on the CPU for a device without float64); a chunk is all that is ever copied.
    """
    device = reference_T.device if reference_T.device.type != "mps" else torch.device("cpu")
    size = chunk or (CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_GPU)
    sums = _Accumulator(min(size, reference_T.numel()), device)
    for rows, reference, port in _chunks(reference_T, port_T, size):
        sums.add(rows, reference, port)
    return sums.result(tokens=len(reference_T))


class _Accumulator:
    """The running sums, and the buffers every chunk is widened into."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._wide = torch.empty((3, size), dtype=torch.float64, device=device)
        self._narrow = torch.empty((2, size), dtype=torch.bfloat16, device=device)
        self._rows: list[Tensor] = []
        self._row_lengths: list[np.ndarray] = []
        self._ulp_counts = torch.zeros(1, dtype=torch.int64, device=device)
        self._octave_counts = torch.zeros(1, dtype=torch.int64, device=device)
        self._greatest: Greatest = nothing_yet(device)
        self._nonfinite = torch.zeros(2, dtype=torch.int64, device=device)
        self._masks_agree = True
        self._seen = 0

    def add(self, rows: int, reference: Tensor, port: Tensor) -> None:
        n = reference.numel()
        wide_3N, narrow_2N = self._wide[:, :n], self._narrow[:, :n]
        for side, values in enumerate((reference, port)):
            wide_3N[side].view(values.shape).copy_(values)
            narrow_2N[side].view(values.shape).copy_(values)
        pair_2RV = wide_3N[:2].view(2, rows, n // rows)
        mean_2R1 = pair_2RV.mean(-1, keepdim=True)
        distance_N = ulp_distances_(narrow_2N)
        if not mean_2R1.isfinite().all():  # a single inf or nan shows in its row's mean
            self._note_nonfinite(wide_3N[:2], distance_N)
        self._ulp_counts = counted(self._ulp_counts, distance_N)

        error_N = torch.sub(wide_3N[1], wide_3N[0], out=wide_3N[2]).abs_()
        error_RV = error_N.view(rows, n // rows)
        error_norm_R, error_sum_R = torch.linalg.vector_norm(error_RV, dim=-1), error_RV.sum(-1)
        error_bits_N = error_N.view(torch.int64)
        self._greatest = with_greatest(self._greatest, error_bits_N, offset=self._seen)
        self._octave_counts = counted(self._octave_counts, error_bits_N.bitwise_right_shift_(52))

        pair_2RV -= mean_2R1  # about each row's own mean, so that a large offset costs no digits
        spread_2R = torch.linalg.vector_norm(pair_2RV, dim=-1)
        product_R = torch.mul(pair_2RV[0], pair_2RV[1], out=error_RV).sum(-1)
        self._rows.append(torch.stack((*mean_2R1[..., 0], *spread_2R, product_R, error_norm_R, error_sum_R)))
        self._row_lengths.append(np.full(rows, n // rows, dtype=np.float64))
        self._seen += n

    def _note_nonfinite(self, pair_2N: Tensor, distance_N: Tensor) -> None:
        finite_2N = pair_2N.isfinite()
        self._nonfinite += (~finite_2N).sum(-1)
        self._masks_agree &= torch.equal(finite_2N[0], finite_2N[1])
        same_infinity = pair_2N[0] == pair_2N[1]
        distance_N[~(finite_2N.all(0) | same_infinity)] = INFINITELY_FAR

    def result(self, tokens: int) -> PairSums:
        lengths = np.concatenate(self._row_lengths)
        rows = Moments(lengths, *torch.cat(self._rows, dim=-1).cpu().numpy())
        parts_of_a_token = len(lengths) // tokens
        nonfinite_reference, nonfinite_port = self._nonfinite.tolist()
        return PairSums(
            tokens=rows.pooled(np.arange(0, len(lengths), parts_of_a_token)),
            ulp_counts=self._ulp_counts.cpu().numpy(),
            octave_counts=self._octave_counts.cpu().numpy(),
            worst_positions=self._greatest.positions.cpu().numpy(),
            nonfinite_reference=nonfinite_reference,
            nonfinite_port=nonfinite_port,
            nonfinite_masks_agree=self._masks_agree,
        )


def _chunks(reference_T: Tensor, port_T: Tensor, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Rows, reference and port of one chunk after another, views in C order: several tokens, or a part of one."""
    values_of_a_token = reference_T[0].numel()
    if values_of_a_token <= size:
        tokens = size // values_of_a_token
        for reference, port in zip(reference_T.split(tokens), port_T.split(tokens), strict=True):
            yield len(reference), reference, port
    else:
        for token_r, token_t in zip(reference_T, port_T, strict=True):
            for reference, port in zip(_parts(token_r, size), _parts(token_t, size), strict=True):
                yield 1, reference, port


def _parts(values: Tensor, size: int) -> Iterator[Tensor]:
    """Views of at most `size` elements that together are `values`, in C order."""
    values_of_an_item = values[0].numel()
    if values_of_an_item > size:
        for item in values:
            yield from _parts(item, size)
    else:
        yield from values.split(size // values_of_an_item)
