# SPDX-License-Identifier: Apache-2.0
"""The torch side of a comparison: run prompt by prompt and token by token, each call with its activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.hooks import ReferenceTap
from tttdebug.tracking.pairing import CachePair
from tttdebug.tracking.torch_cache import cache_argument, fork, keys_and_values

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Forward:
    """One call of a torch model: the output of each paired module by boundary, and logits [T, V]; an encoder has none.

    `adapters` say which tensor of an output that is, where a module gives several.
    """

    logits_TV: torch.Tensor | None
    activations: Mapping[str, torch.Tensor]
    adapters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def logits(self) -> torch.Tensor:
        """The logits [T, V] of a language model."""
        assert self.logits_TV is not None
        return self.logits_TV


class TorchSide:
    """A causal language model with a key/value cache for each user."""

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module],
        caches: Sequence[CachePair] = (),
        elements: Mapping[str, int | str] | None = None,
    ) -> None:
        self.model = model
        self._elements = elements
        self.modules = modules
        self._cache_pairs = caches
        self._caches: dict[int, Any] = {}
        self._cache_name = cache_argument(model)

    def prefill(self, token_ids: Sequence[int], user: int) -> Forward:
        """Run a whole prompt and keep its cache."""
        from transformers import DynamicCache

        self._caches[user] = DynamicCache()  # one that keeps all positions, of layers with a sliding window too
        return self._forward(token_ids, user)

    def cache_of(self, user: int) -> Any:
        """The cache of a prompt as it is now, to go on from in `again`."""
        return fork(self._caches[user])

    def again(self, token_ids: Sequence[int], before: Any = None) -> Forward:
        """One more call from a cache on, or of a whole prompt; this side stays where it is."""
        from transformers import DynamicCache

        return self._run(token_ids, DynamicCache() if before is None else fork(before))[0]

    def decode(self, token_id: int, user: int) -> Forward:
        """Run one more token of a prompt that was prefilled."""
        return self._forward([token_id], user)

    def _forward(self, token_ids: Sequence[int], user: int) -> Forward:
        made, self._caches[user] = self._run(token_ids, self._caches[user])
        return made

    def _run(self, token_ids: Sequence[int], cache: Any) -> tuple[Forward, Any]:
        """One call, and the cache after it."""
        import torch

        with torch.no_grad(), ReferenceTap(self.modules, self._elements) as tap:
            output = self.model(input_ids=torch.tensor([list(token_ids)]), use_cache=True, **{self._cache_name: cache})
            activations, adapters = tap.outputs(), tap.adapters()
        written = getattr(output, self._cache_name)
        for pair in self._cache_pairs:
            activations[pair.boundary] = _newest(written, pair, len(token_ids))
        return Forward(output.logits[0], activations, adapters), written


def _newest(cache: Any, pair: CachePair, tokens: int) -> torch.Tensor:
    """The last `tokens` keys or values of one layer of a transformers cache, all heads side by side: [1, T, K·E]."""
    written = keys_and_values(cache, pair.layer)
    assert written is not None  # the model has just run
    whole_1KTE = written[0 if pair.part == "keys" else 1]
    return whole_1KTE[:, :, -tokens:].transpose(1, 2).flatten(2)
