# SPDX-License-Identifier: Apache-2.0
"""Faults of norms: their gain, their mean, their epsilon."""

from __future__ import annotations

from typing import Any

from tttdebug.faults import kinds
from tttdebug.faults.placing import change_weight, place_again
from tttdebug.faults.seen_as import run_as, with_ops
from tttdebug.faults.site import Fault, Site, fault


def _other_offset(site: Site) -> None:
    change_weight(site.module, "weight", lambda gain: gain - 1.0 if site.spec.unit_offset else gain + 1.0)


def _no_gain(site: Site) -> None:
    change_weight(site.module, "weight", lambda gain: gain.fill_(0.0 if site.spec.unit_offset else 1.0))


def _sum_for_mean(site: Site) -> None:
    """1 / sqrt(sum(x²) + eps), of rms_norm's 1 / sqrt(mean(x²) + eps/D)."""
    ttnn, width = site.ttnn, site.spec.hidden_dim

    def rms_norm(x: Any, *, epsilon: float, **others: Any) -> Any:
        return ttnn.multiply(ttnn.rms_norm(x, epsilon=epsilon / width, **others), width**-0.5)

    with_ops(site.module, rms_norm=rms_norm)


def _other_epsilon(site: Site) -> None:
    epsilon = site.choose((1e-3, 1e-2, 0.1, 1.0))
    run_as(site.module, epsilon=epsilon, spec=site.spec.replace(eps=epsilon))


def _mean_kept(site: Site) -> None:
    ttnn = site.ttnn

    def layer_norm(x: Any, *, bias: Any = None, **others: Any) -> Any:
        normed = ttnn.rms_norm(x, **others)
        return normed if bias is None else ttnn.add(normed, bias)

    with_ops(site.module, layer_norm=layer_norm)


def _mean_removed(site: Site) -> None:
    with_ops(site.module, rms_norm=site.ttnn.layer_norm)


def _no_bias(site: Site) -> None:
    run_as(site.module, bias_on_device=None)


def _gain_of_the_other_norm(site: Site) -> None:
    layer = site.port.layers[site.layer]
    other = layer.ff_norm if site.module is layer.attention_norm else layer.attention_norm
    place_again(site.module, {"weight": other.weight("weight")})


def _two_norms(site: Site) -> bool:
    return (
        kinds.norm(site)
        and site.layer is not None
        and getattr(site.port.layers[site.layer], "ff_norm", None) is not None
    )


FAULTS: tuple[Fault, ...] = (
    fault("norm_unit_offset", "weights", "norm_unit_offset", kinds.norm, _other_offset),
    fault("norm_gain_missing", "weights", "norm_gain_missing", kinds.norm, _no_gain),
    fault("norm_gain_of_other_norm", "weights", "weights_exchanged weight_stale", _two_norms, _gain_of_the_other_norm),
    fault("norm_sum_for_mean", "code", "norm_sum_for_mean", kinds.rms_norm, _sum_for_mean),
    fault("norm_eps", "code", "norm_eps", kinds.norm, _other_epsilon),
    fault("norm_mean_kept", "code", "norm_mean_kept", kinds.layer_norm, _mean_kept),
    fault("norm_mean_removed", "code", "norm_mean_kept", kinds.rms_norm, _mean_removed),
    fault(
        "norm_bias_missing",
        "code",
        "bias_missing",
        kinds.both(kinds.layer_norm, kinds.spec_has(lambda spec: spec.bias)),
        _no_bias,
    ),
)
