# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in the weights that a port holds: turned, exchanged, of another layer, or not there at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, WeightsOf
from tttdebug.analysis.hypotheses.names import bias_of

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench

_BESIDE = 1  # how far the layers are from this one whose weights are tried before all others'


def turned(bench: Bench) -> Iterator[Change]:
    """Each matrix transposed; one that is not square read row by row in the shape of its transpose."""
    for name, weight in _matrices(bench):
        rows, columns = weight.shape
        says = f"{name} is transposed" if rows == columns else f"{name} is reshaped where it should be transposed"
        yield Change(
            "weight_transposed",
            says,
            Fix(f"transpose {name} on the way to the device", f"{name} = weight.transpose(-2, -1).contiguous()"),
            weights=edit({name: lambda w: w.reshape(w.shape[1], w.shape[0]).T}),
        )


def exchanged(bench: Bench) -> Iterator[Change]:
    """Each two matrices of one shape in each other's place, with their biases and without."""
    for (one, first), (other, second) in combinations(list(_matrices(bench)), 2):
        if first.shape != second.shape:
            continue
        has_biases = bias_of(one) in bench.call.weights and bias_of(other) in bench.call.weights
        for biases, pairs in ((", their biases too", [(bias_of(one), bias_of(other))]), ("", [])):
            if has_biases or not biases:
                yield Change(
                    "weights_exchanged",
                    f"{_in_words(one)} and {_in_words(other)} are exchanged{biases}",
                    Fix(f"exchange {one} and {other}"),
                    weights=exchange_weights([(one, other), *pairs]),
                )


def missing(bench: Bench) -> Iterator[Change]:
    """Each weight, or bias, all zeros."""
    for name, weight in bench.call.weights.items():
        if name.startswith("experts.") or weight.dim() > 2:
            continue
        if _is_bias(name):
            yield Change(
                "bias_missing", f"the bias {name} is not added", Fix(f"add {name}"), weights=edit({name: _zeros})
            )
        elif weight.dim() == 2:
            yield Change("weight_missing", f"{name} is all zeros", Fix(f"load {name}"), weights=edit({name: _zeros}))
    biases = [name for name in bench.call.weights if _is_bias(name) and "." not in name]
    for several in (group for count in range(2, len(biases) + 1) for group in combinations(biases, count)):
        says = f"the biases {', '.join(several)} are not added"
        yield Change("bias_missing", says, Fix("add them"), weights=edit(dict.fromkeys(several, _zeros)))


def edit(edits: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> WeightsOf:
    """Those weights changed, where the module has them."""
    return lambda weights, call: {
        name: edits[name](weight) if name in edits else weight for name, weight in weights.items()
    }


def exchange_weights(pairs: Sequence[tuple[str, str]]) -> WeightsOf:
    """The two weights of each pair in each other's place."""
    places = {name: place for one, other in pairs for name, place in ((one, other), (other, one))}
    return lambda weights, call: {
        name: weights[places[name]] if places.get(name) in weights else weight for name, weight in weights.items()
    }


def _matrices(bench: Bench) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in bench.call.weights.items():
        if (
            weight.dim() == 2
            and min(weight.shape) > 1
            and not name.startswith("experts.")
            and not _is_table(bench, name)
        ):
            yield name, weight


def _is_table(bench: Bench, name: str) -> bool:
    """Whether this is a table of rows to look up, or as long as one; a square one may be transposed all the same."""
    is_square = bench.call.weights[name].shape[0] == bench.call.weights[name].shape[1]
    return bench.call.kind in ("embedding", "lm_head") and not is_square


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] in ("bias", "bq", "bk", "bv", "bo", "b1", "b2", "b3")


def _zeros(weight: torch.Tensor) -> torch.Tensor:
    return weight * 0.0


_WORDS = {"w1": "gate (w1)", "w3": "up (w3)", "w2": "down (w2)", "wq": "wq", "wk": "wk", "wv": "wv"}


def _in_words(name: str) -> str:
    return _WORDS.get(name, name)
