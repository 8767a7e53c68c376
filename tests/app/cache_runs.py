# SPDX-License-Identifier: Apache-2.0
"""A small run with key/value caches, as those of models are compared: one whose keys are in the other rotary order."""

# T tokens, K heads, E head dimension

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from sample_runs import PROMPT_TOKENS, Pair, about, open_writer

from tttdebug.tracking.comparison import compare
from tttdebug.tracking.gates import default_gate, judge
from tttdebug.tracking.head_order import rotate_heads
from tttdebug.tracking.layout import align_cache
from tttdebug.tracking.part_errors import with_parts
from tttdebug.tracking.record import Record, metrics_of
from tttdebug.tracking.run import Run
from tttdebug.tracking.spread import Spread
from tttdebug.tracking.writer import RunWriter

LAYERS, HEADS, HEAD_DIM, STEPS = 3, 2, 32, 2
CACHES = "llama_nov22_150000"
OTHER_ORDER = "L01"
"""The layer whose keys are in the other order."""


def write_run_with_caches(folder: Path) -> Run:
    """Prefill and two decode steps; the cache is read as if it were split in halves."""
    writer = open_writer(folder, "llama", save_tensors="all")
    writer.manifest = replace(
        writer.manifest, model={**writer.manifest.model, "heads": 4, "kv_heads": HEADS, "head_dim": HEAD_DIM}
    )
    random = torch.Generator().manual_seed(0)
    for phase, step, start, tokens in (
        ("prefill", 0, 0, PROMPT_TOKENS),
        *(("decode", step, PROMPT_TOKENS + step, 1) for step in range(STEPS)),
    ):
        for layer in range(LAYERS):
            for kind in ("k_cache", "v_cache"):
                truth_TKE = torch.randn((tokens, HEADS, HEAD_DIM), generator=random)
                written_TKE = truth_TKE * (1 + 0.01 * torch.randn(truth_TKE.shape, generator=random))
                boundary = f"L{layer:02d}.{kind}"
                if boundary == f"{OTHER_ORDER}.k_cache":
                    written_TKE = rotate_heads(written_TKE)
                _add(writer, boundary, phase, step, start, truth_TKE, written_TKE)
    return writer.finish()


def _add(
    writer: RunWriter,
    boundary: str,
    phase: str,
    step: int,
    start: int,
    truth_TKE: torch.Tensor,
    written_TKE: torch.Tensor,
) -> None:
    cache_1KLE = torch.zeros(1, HEADS, 128, HEAD_DIM)
    cache_1KLE[0, :, start : start + len(written_TKE)] = written_TKE.transpose(0, 1)
    # the values lie on two devices, a head on each
    cache = Spread(tuple(cache_1KLE.chunk(2, dim=1)), (2,), (1,)) if boundary.endswith("v_cache") else cache_1KLE
    aligned = align_cache(truth_TKE.flatten(1)[None], cache, user=0, start=start, interleaved=False)
    comparison = compare(aligned.reference_TC, aligned.port_TC)
    judgement = judge(comparison, default_gate(boundary, phase), 0.01)
    facts = about(Pair(boundary, aligned.reference_TC, aligned.port_TC, 0.01), phase, step, 0)
    record = Record(**facts, **metrics_of(comparison), verdict=judgement.verdict, adapters=aligned.adapters, note="")
    writer.append(record, with_parts(comparison.profile, aligned, keys=boundary.endswith("k_cache")))
    writer.offer_tensors(record, aligned.reference_TC, aligned.port_TC)
