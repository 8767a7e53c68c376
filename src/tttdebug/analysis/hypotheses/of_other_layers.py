# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in another layer's weights or cache: a wrong index, or weights that are kept without the layer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, WeightsOf
from tttdebug.analysis.mathematics.rotary_order import in_halves
from tttdebug.analysis.module_call import KeysValues
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

Names: TypeAlias = tuple[str, ...]
_TRIED = 3  # layers that are tried with weights as the port reads them
_FUSED = ({"wq", "wk", "wv", "bq", "bk", "bv"}, {"wk", "wv", "bk", "bv"}, {"w1", "w3", "b1", "b3"})


def of_other_layers(bench: Bench) -> Iterator[Change]:
    """Weights of another layer: all of them, each alone, and those that are loaded together.

    All are tried on a few tokens, and the nearest to the port are given.
    """
    call = bench.call
    if call.layer is None:
        return
    sketch, layers = bench.sketch, _Layers()
    tried = []
    for layer in _layers(call):
        changes = [_stale(call.layer, layer, names, layers) for names in _loaded_together(call)]
        with sketch.memory.trying(layers.of(call, layer) or {}):
            tried += [(sketch.error(change), abs(layer - call.layer), change) for change in changes]
    yield from (change for _, _, change in sorted(tried, key=lambda entry: entry[:2])[:_TRIED])


class _Layers:
    """The weights of other layers, each read once a call."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, int], tuple[ModuleCall, Mapping[str, torch.Tensor] | None]] = {}

    def of(self, call: ModuleCall, layer: int) -> Mapping[str, torch.Tensor] | None:
        key = (id(call), layer)
        if key not in self._read:
            self._read[key] = (call, call.weights_of_layer(layer))
        return self._read[key][1]


def _stale(here: int, layer: int, names: Names, layers: _Layers) -> Change:
    return Change(
        "weight_stale",
        f"holds layer {layer}'s {', '.join(names)}",
        Fix(f"load layer {here}'s {', '.join(names)}; clear the weight cache if it is keyed without the layer"),
        weights=_from_layer(layer, names, layers),
    )


def _from_layer(layer: int, names: Sequence[str], layers: _Layers) -> WeightsOf:
    def stale(weights: Mapping[str, torch.Tensor], call: ModuleCall) -> Mapping[str, torch.Tensor]:
        of_layer = layers.of(call, layer)
        if of_layer is None:
            return weights
        return {name: of_layer[name] if name in names else weight for name, weight in weights.items()}

    return stale


def _layers(call: ModuleCall) -> Iterator[int]:
    """Every layer but this one."""
    for layer in count():
        if layer != call.layer:
            if call.weights_of_layer(layer) is None:
                return
            yield layer


def _loaded_together(call: ModuleCall) -> list[Names]:
    """The sets of weights that may be of another layer: all, each, and those that ports fuse or load as one."""
    names = tuple(call.weights)
    fused = [tuple(name for name in names if name in group) for group in _FUSED]
    alone = [(name,) for name in names] if len(names) <= 8 else []
    return list(dict.fromkeys(group for group in (names, *fused, *alone) if group))


def cache_of_another(bench: Bench) -> Iterator[Change]:
    """A step that attends to the keys and values of another layer's cache."""
    call = bench.call
    if call.past is None or call.layer is None or not isinstance(call.spec, AttentionSpec):
        return
    length = call.past.keys_KPE.shape[1]
    for layer in count():
        if layer == call.layer:
            continue
        held = in_halves(call, bench.arithmetic, call.past_of_layer(layer))
        if held is None:
            return
        if held.keys_KPE.shape[0] == call.past.keys_KPE.shape[0]:
            yield _attending_to(layer, held, length)


def _attending_to(layer: int, held: KeysValues, length: int) -> Change:
    """`held` has the step's own token too where that layer comes before."""
    past, own = (
        KeysValues(held.keys_KPE[:, part], held.values_KPE[:, part])
        for part in (slice(None, length), slice(length, length + 1))
    )
    return Change(
        "kv_stale",
        f"the step attends to the cache of layer {layer}",
        Fix(f"give the attention its own layer's cache instead of layer {layer}'s"),
        steps={
            "edit_past": lambda _: past,
            "own_written": False,
            "own_found": own if own.keys_KPE.shape[1] else None,
        },
    )
