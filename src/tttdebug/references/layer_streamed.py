# SPDX-License-Identifier: Apache-2.0
"""A reference larger than memory: its decoder layers are read from safetensors one at a time, as its forward comes by.

The model is Hugging Face's own; what it gives is the same bit for bit. Several prompts go through a layer together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tttdebug.errors import WeightsError
from tttdebug.references.lockstep import Lockstep
from tttdebug.references.pretrained import empty_model
from tttdebug.references.stored_weights import StoredWeights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

T = TypeVar("T")
Place = Callable[["nn.Module", Mapping[str, "Tensor"]], Callable[[], None]]
"""Puts weights by their names into a model, and gives what takes away what else it put there."""


class LayerStream:
    """A model of which the embedding, the last norm and the head are in memory, and one decoder layer while it runs.

    `place` decides what of the weights as they are stored the model gets. Raises WeightsError where the checkpoint
    keeps the weights under other names than the model.
    """

    def __init__(
        self, config: PretrainedConfig, weights: StoredWeights, dtype: torch.dtype, place: Place | None = None
    ) -> None:
        self.model: PreTrainedModel = empty_model(config, origin=weights.folder, dtype=dtype)
        self.weights = weights
        self._config, self._dtype = config, dtype
        self._place: Place = put if place is None else place
        self._lockstep = Lockstep()
        self._layers, path = _decoder_layers(self.model)
        names = [name for name, _ in self.model.named_parameters()]
        self._stored = _stored_names(self.model, names, weights)
        self._of_layer = [
            [name for name in names if name.startswith(f"{path}.{number}.")] for number in range(len(self._layers))
        ]
        in_layers = {name for layer in self._of_layer for name in layer}
        resident = self._read([name for name in names if name not in in_layers and name in self._stored])
        self._place(self.model, resident | _tied(self.model, resident))
        self.model.tie_weights()
        if lacking := [n for n, p in self.model.named_parameters() if p.is_meta and n not in self._stored]:
            raise WeightsError(
                f"{weights.folder} does not keep {lacking[0]} under that name, so it cannot be read a layer at a time: "
                "load the reference whole"
            )
        self.model.eval().requires_grad_(False)
        self._undo: dict[int, Callable[[], None]] = {}
        for number, layer in enumerate(self._layers):
            layer.register_forward_pre_hook(self._before(number))
            layer.register_forward_hook(self._after(number), always_call=True)

    def twin(self, place: Place) -> LayerStream:
        """The same model with other weights: what `place` makes of these."""
        return LayerStream(self._config, self.weights, self._dtype, place)

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """What several calls of the model give, each layer read once for all of them."""
        return self._lockstep.run(calls, self._held)

    def state(self) -> Mapping[str, Tensor]:
        """The state dict, each weight read when it is asked for."""
        return _State(self.model, self._stored, self.weights)

    @contextmanager
    def _held(self, number: int) -> Iterator[None]:
        """A layer's weights are in memory within the block."""
        self._load(number)
        try:
            yield
        finally:
            self._drop(number)

    def _before(self, number: int) -> Callable[..., None]:
        def before(layer: nn.Module, inputs: Any) -> None:
            if not self._lockstep.stop(number):
                self._load(number)

        return before

    def _after(self, number: int) -> Callable[..., None]:
        def after(layer: nn.Module, inputs: Any, output: Any) -> None:
            if not self._lockstep.inside:
                self._drop(number)

        return after

    def _load(self, number: int) -> None:
        self._undo[number] = self._place(self.model, self._read(self._of_layer[number]))

    def _drop(self, number: int) -> None:
        if number in self._undo:
            self._undo.pop(number)()
            put(self.model, {name: self.model.get_parameter(name).to("meta") for name in self._of_layer[number]})

    def _read(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.weights[self._stored[name]] for name in names}


class _State(Mapping[str, "Tensor"]):
    """What a streamed model's state dict would be."""

    def __init__(self, model: nn.Module, stored: Mapping[str, str], weights: StoredWeights) -> None:
        self._held = model.state_dict()
        self._stored = stored
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        held: Tensor = self._held[name]
        return self._weights[self._stored[name]] if held.is_meta else held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def load_streamed(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> LayerStream:
    """The model of a Hugging Face folder, to be run a layer at a time. Raises WeightsError where it cannot be."""
    return LayerStream(config, StoredWeights(folder, dtype), dtype)


def put(model: nn.Module, weights: Mapping[str, Tensor]) -> Callable[[], None]:
    """Put tensors in the place of parameters, whatever device these are on."""
    from torch import nn

    for name, tensor in weights.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor, requires_grad=False))
    return lambda: None


def _decoder_layers(model: PreTrainedModel) -> tuple[nn.ModuleList, str]:
    """The list of the model's layers, and its path."""
    from torch import nn

    count = model.config.num_hidden_layers
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise WeightsError(
            f"a {type(model).__name__} has no list of its {count} layers, so it cannot be run a layer at a time: load "
            "the reference whole"
        )
    path, layers = min(lists, key=lambda each: each[0].count("."))  # a list within a layer lies deeper
    return layers, path


def _tied(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head's weight under its own name, where it is the embedding's and no file holds it."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not getattr(model.config, "tie_word_embeddings", False):
        return {}
    paths = {id(module): path for path, module in model.named_modules()}
    name, source = (f"{paths[id(module)]}.weight" for module in (head, embedding))
    return {name: weights[source]} if name not in weights and source in weights else {}


def _stored_names(model: PreTrainedModel, names: Sequence[str], weights: StoredWeights) -> dict[str, str]:
    """The name in the file of each parameter that is there: files of a model without its head leave out a prefix."""
    prefix = f"{model.base_model_prefix}."
    found = {}
    for name in names:
        for candidate in (name, name.removeprefix(prefix), prefix + name):
            if candidate in weights:
                found[name] = candidate
                break
    return found
