# SPDX-License-Identifier: Apache-2.0
"""Write a made-up large run to look at. Run: python benchmarks/large_run.py FOLDER [--records 100000] [--gigabytes 5]

80 layers that read 2,048 tokens and then write one at a time, explained: half of the records are of modules alone. The
tensors of the prefill's branches are kept until the gigabytes are used up.
"""

# T tokens, C channels

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.profile import ErrorProfile, HeadErrors, WorstElement
from tttdebug.tracking.record import Record
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ISOLATED
from tttdebug.tracking.writer import RunWriter

LAYERS, PROMPT_TOKENS, CHANNELS, HEADS, OUTLIER = 80, 2048, 4096, 8, 77
KINDS = ("input_norm", "self_attn", "k_cache", "v_cache", "post_attn_norm", "mlp", "layer_out")
BOUNDARIES = ("embed", *(f"L{i:02}.{kind}" for i in range(LAYERS) for kind in KINDS), "final_norm", "logits")
FAULTY = "L31.self_attn"
FLOOR = 0.01


@dataclass(frozen=True)
class Place:
    """One boundary in one call."""

    boundary: str
    phase: str
    step: int
    tokens: int

    @property
    def chance(self) -> float:
        """A factor about 1 of its own, the same whenever it is asked for."""
        return random.Random(str(self)).lognormvariate(0, 0.1)

    @property
    def error(self) -> float:
        """rel_l2: at the floor before the fault, grown by it from there on."""
        if BOUNDARIES.index(self.boundary) < BOUNDARIES.index(FAULTY):
            return 1.1 * FLOOR * self.chance
        return 0.8 if self.boundary == FAULTY else 0.06 * self.chance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    options = parser.parse_args()
    write_large_run(options.folder, options.records, int(options.gigabytes * 1e9))


def write_large_run(folder: Path, records: int, tensor_bytes: int) -> None:
    """A finished, explained run of at least so many records, and so many bytes of tensors."""
    steps = math.ceil(records / 2 / len(BOUNDARIES)) - 1
    places = list(places_of(steps))
    made = Manifest(
        created="2026-01-01T00:00:00",
        model={"name": "made up", "source": "benchmarks/large_run.py", "weights_digest": "0" * 64, "layers": LAYERS},
        device={"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8], "mesh": [1, 1]},
        precision="accuracy",
        prompts=({"text": "made up", "tokens": PROMPT_TOKENS},),
        decode_steps=steps,
        expected=len(places),
    )
    writer = RunWriter(folder, made, save_tensors="all", tensor_budget=tensor_bytes)
    reference_TC = torch.randn(PROMPT_TOKENS, CHANNELS)
    reference_TC[:, OUTLIER] *= 50
    for place in places:
        writer.append(record_of(place), profile_of(place))
        if place.phase == "prefill" and place.boundary.endswith(("self_attn", "mlp")):
            noise = place.error * reference_TC.norm() / math.sqrt(reference_TC.numel())
            writer.offer_tensors(record_of(place), reference_TC, reference_TC + noise * torch.randn_like(reference_TC))
    writer.append_tokens([token_line(position) for position in range(PROMPT_TOKENS + steps)])
    reopened = ReopenedRun(writer.finish())
    for place in places:
        reopened.append(record_of(place, ISOLATED), profile_of(place))
    reopened.finish({}, [], [])


def places_of(steps: int) -> Iterator[Place]:
    for boundary in BOUNDARIES:
        yield Place(boundary, "prefill", 0, PROMPT_TOKENS)
    for step in range(steps):
        for boundary in BOUNDARIES:
            yield Place(boundary, "decode", step, 1)


def record_of(place: Place, mode: str = "accumulated") -> Record:
    alone = mode == ISOLATED and place.boundary != FAULTY
    error = FLOOR * place.chance if alone else place.error
    failing = "injected" if place.boundary == FAULTY else "inherited"
    return Record(
        boundary=place.boundary,
        pcc=1 - error**2 / 2,
        max_abs_diff=10 * error,
        shape=(place.tokens, CHANNELS),
        mode=mode,
        phase=place.phase,
        step=place.step,
        user=0,
        verdict="ok" if error < 3 * FLOOR else failing,
        rel_l2=error,
        slope=1.0,
        norm_ratio=1.0,
        cosine=1 - error**2 / 2,
        mean_abs=error / 2,
        rmse=error,
        ulp_p50=1.0,
        ulp_p99=20 * place.chance,
        ulp_max=900.0,
        worst_token=place.tokens // 2,
        worst_token_pcc=1 - error,
        last_token_pcc=1 - error**2 / 2,
        nonfinite_reference=0,
        nonfinite_port=0,
        floor_rel_l2=FLOOR,
        module="layers.0.mlp",
        reference_path="model.layers.0.mlp",
        dtype="bfloat16",
        adapters=("squeeze",),
        engine="fast",
        seconds=0.001 * place.chance,
    )


def profile_of(place: Place) -> ErrorProfile:
    worst = tuple(WorstElement((i, 7), 0.5, 0.6) for i in range(16))
    edges = (0.0, *(2.0**-e for e in range(30, -1, -1)))
    errors = (place.error,) * place.tokens
    return ErrorProfile(
        errors,
        tuple(1 - error for error in errors),
        edges,
        (1000,) * (len(edges) - 1),
        worst,
        heads_of(place) if place.boundary.endswith("_cache") else None,
    )


def heads_of(place: Place) -> HeadErrors:
    errors = ((round(place.error, 4),) * place.tokens,) * HEADS
    start = 0 if place.phase == "prefill" else PROMPT_TOKENS + place.step
    if place.boundary.endswith("v_cache"):
        return HeadErrors(start, errors)
    return HeadErrors(start, errors, "interleaved", ((1.4,) * place.tokens,) * HEADS, 1.4)


def token_line(position: int) -> dict[str, object]:
    top = [[token, f" word{token}", 0.5 / (token + 1)] for token in range(5)]
    phase, step = ("prefill", 0) if position < PROMPT_TOKENS else ("decode", position - PROMPT_TOKENS)
    told = {"phase": phase, "step": step, "user": 0, "position": position, "token": position % 5}
    return told | {"text": f" word{position}", "reference_top": top, "port_top": top, "kl": 0.01, "margin": 1.0}


if __name__ == "__main__":
    main()
