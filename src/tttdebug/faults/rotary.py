# SPDX-License-Identifier: Apache-2.0
"""Faults of positions: the rotary embedding's base, scaling and place, and where decode steps stand.

B users, E head dimension, R the part of it that turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tttdebug.faults import kinds
from tttdebug.faults.seen_as import Entry, SeenAs, on_host, run_as, wrap
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.rotary_embedding import RotaryEmbedding, inverse_frequencies

if TYPE_CHECKING:
    import torch


def _turn_by(site: Site, **rope: Any) -> None:
    """Run with another rotary embedding."""
    spec = site.spec
    changed = spec.replace(rope=spec.rope.replace(**rope))
    run_as(site.module, rotary=RotaryEmbedding(changed, site.module.device))


def _other_theta(site: Site) -> None:
    _turn_by(site, theta=site.spec.rope.theta * site.choose((0.01, 0.1, 10.0, 50.0)))


def _other_scaling(site: Site) -> None:
    llama3 = {"scaling": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    others: list[dict[str, Any]] = [
        {"scaling": "default", "factor": 1.0},
        {"scaling": "linear", "factor": 2.0},
        {"scaling": "linear", "factor": 4.0},
        {**llama3, "original_max_position": 64},
    ]
    meant = site.spec.rope
    _turn_by(site, **site.choose([o for o in others if (o["scaling"], o["factor"]) != (meant.scaling, meant.factor)]))


def _no_turning(site: Site) -> None:
    run_as(site.module, rotary=None)


def _queries_ahead(site: Site) -> None:
    """Queries turned as if they stood a few positions further; keys are right."""
    module, spec, shift = site.module, site.spec, site.choose((-1, 1, 2))
    angles_R = (shift * inverse_frequencies(spec.rope, spec.rotary_dim)).repeat_interleave(2)

    def turn(q: torch.Tensor) -> torch.Tensor:
        turned = q[..., : spec.rotary_dim]
        pairs = turned.unflatten(-1, (-1, 2))
        quarter = pairs.flip(-1) * pairs.new_tensor([-1.0, 1.0])
        turned.copy_(turned * angles_R.cos() + quarter.flatten(-2) * angles_R.sin())
        return q

    def around(original: Entry) -> Entry:
        return lambda q, *others: original(on_host(site.ttnn, q, turn), *others)

    for name in ("attend_prompt", "attend_step"):
        vars(module)[name] = around(getattr(module, name))


def _steps_turned(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Site], None]:
    """Turn a decode step's queries and keys as if it stood elsewhere; it writes and attends where it should."""

    def inject(site: Site) -> None:
        def around(entry: Entry) -> Entry:
            def decode_forward(x: Any, positions: Any) -> Any:
                elsewhere_B = change(site.ttnn.to_torch(positions.on_device).long())
                tables = {"tables": lambda rotary: rotary.decode_tables(elsewhere_B)}
                return entry(x, SeenAs(positions, tables))

            return decode_forward

        wrap(site.module, around, "decode")

    return inject


FAULTS: tuple[Fault, ...] = (
    fault("rope_theta", "code", "rope_theta", kinds.turning, _other_theta),
    fault("rope_scaling", "code", "rope_scaling", kinds.turning, _other_scaling),
    fault("rope_missing", "code", "rope_missing", kinds.turning, _no_turning),
    fault("queries_ahead", "code", "position_offset", kinds.turning, _queries_ahead),
    fault(
        "decode_position_ahead",
        "state",
        "position_offset",
        kinds.turning,
        _steps_turned(lambda positions_B: positions_B + 1),
        steps=1,
    ),
    fault(
        "decode_position_behind",
        "state",
        "position_offset",
        kinds.turning,
        _steps_turned(lambda positions_B: positions_B - 1),
        steps=1,
    ),
    fault(
        "decode_position_stuck",
        "state",
        "position_offset",
        kinds.turning,
        _steps_turned(lambda positions_B: positions_B * 0),
        steps=1,
    ),
)
