# SPDX-License-Identifier: Apache-2.0
"""Key/value caches of transformers models: their layers, a copy to go on from, the same in another number format."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn


def cache_argument(model: nn.Module) -> str:
    """What a model calls its cache; transformers names it `cache` from 5.24 on."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def is_cache(value: Any) -> bool:
    """Whether a value is a key/value cache of transformers."""
    return hasattr(value, "layers") or hasattr(value, "key_cache")


def fork(cache: Any) -> Any:
    """A cache that holds the same now and goes its own way from here on. No tensor is copied: updates make new ones."""
    forked = copy.copy(cache)
    if hasattr(cache, "layers"):
        forked.layers = [copy.copy(layer) for layer in cache.layers]
    else:  # transformers 4
        forked.key_cache, forked.value_cache = list(cache.key_cache), list(cache.value_cache)
    return forked


def with_forks(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with any cache among them forked."""
    return tuple(map(_forked, args)), {name: _forked(value) for name, value in kwargs.items()}


def _forked(value: Any) -> Any:
    return fork(value) if is_cache(value) else value


def keys_and_values(cache: Any, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Keys and values [1, K, T, E] of one layer; None where nothing was written yet."""
    if hasattr(cache, "layers"):
        if layer >= len(cache.layers) or cache.layers[layer].keys is None:
            return None
        return cache.layers[layer].keys, cache.layers[layer].values
    if layer >= len(cache.key_cache):  # transformers 4
        return None
    return cache.key_cache[layer], cache.value_cache[layer]


def set_part(cache: Any, layer: int, part: Literal["keys", "values"], tensor: torch.Tensor) -> None:
    """Put other keys or values [1, K, T, E] into one layer."""
    if hasattr(cache, "layers"):
        setattr(cache.layers[layer], part, tensor)
    else:  # transformers 4
        (cache.key_cache if part == "keys" else cache.value_cache)[layer] = tensor


def in_dtype(cache: Any, dtype: torch.dtype) -> Any:
    """A fork whose keys and values are rounded to `dtype`."""
    forked = fork(cache)
    if hasattr(forked, "layers"):
        for layer in forked.layers:
            if layer.keys is not None:
                layer.keys, layer.values, layer.dtype = layer.keys.to(dtype), layer.values.to(dtype), dtype
    else:  # transformers 4
        forked.key_cache = [keys.to(dtype) for keys in forked.key_cache]
        forked.value_cache = [values.to(dtype) for values in forked.value_cache]
    return forked
