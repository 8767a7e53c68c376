# SPDX-License-Identifier: Apache-2.0
"""Calls of torch modules, kept so that they can be made again with another input, or with other outputs of their parts.

T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.call_numbers import name_of_call
from tttdebug.tracking.hooks import at_same_object, first_tensor
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.torch_cache import with_forks

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class TorchCall:
    """One call of a torch module. A cache among its arguments is as it was before the call.

    Where modules run `through` before it, the arguments are those of the first one, and each gets what the one before
    gave.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    element: int | str | None = None
    through: tuple[nn.Module, ...] = ()

    @property
    def input(self) -> torch.Tensor:
        """The first tensor that went in. Raises PairingError when there is none."""
        return input_of(self.args, self.kwargs)

    @property
    def output_tensor(self) -> torch.Tensor:
        """The tensor of the output that the pair means."""
        return first_tensor(element_of(self.output, self.element, "reference")[0])

    def again(self, x: torch.Tensor | None = None, parts: Mapping[nn.Module, Any] | None = None) -> torch.Tensor:
        """What the module gives for input `x` (its own where None), while `parts` within it give the outputs named."""
        import torch

        args, kwargs = with_input(*with_forks(self.args, self.kwargs), x)
        with torch.no_grad(), answering(parts or {}):
            output = called(self.module, self.through, args, kwargs)
        return first_tensor(element_of(output, self.element, "reference")[0])

    def output_with(self, tensor: torch.Tensor) -> Any:
        """The whole output with this tensor in the place of the one that the pair means."""
        return replaced(self.output, self.output_tensor, tensor)


def called(module: nn.Module, through: Sequence[nn.Module], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module gives where others run before it: the first of all gets the arguments."""
    for before in through:
        args, kwargs = (first_tensor(before(*args, **kwargs)),), {}
    return module(*args, **kwargs)


def replaced(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """`output`, a tensor, tuple, list or mapping, with `new` where `old` was."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = {name: replaced(part, old, new) for name, part in output.items()}
        return type(output)(**changed) if type(output) is not dict else changed
    if isinstance(output, (tuple, list)):
        return type(output)(replaced(part, old, new) for part in output)
    return output


def input_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The first tensor among the arguments of a torch module. Raises PairingError when there is none."""
    import torch

    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
    raise PairingError("a reference module was called without a tensor, so nothing can be put in its place")


def with_input(
    args: Sequence[Any], kwargs: Mapping[str, Any], x: torch.Tensor | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with `x` in the place of the first tensor; as they are where it is None."""
    if x is None:
        return tuple(args), dict(kwargs)
    old = input_of(args, kwargs)
    return tuple(x if value is old else value for value in args), {
        name: x if value is old else value for name, value in kwargs.items()
    }


@contextmanager
def answering(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Within the block these modules compute nothing and give the outputs named."""
    before = {module: module.__dict__.get("forward") for module in outputs}
    for module, output in outputs.items():
        module.__dict__["forward"] = _giving(output)
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def _giving(output: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: output


class CallCapture:
    """Keeps every call of the paired torch modules: `with CallCapture(modules) as capture: model(…)`.

    `through` are for a boundary the modules that run before its own: its input is what goes into the first of these.
    `change_input(boundary, x)`, where given, says what goes in instead of `x`. Nothing is copied: inputs are mostly the
    outputs of other modules.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        elements: Mapping[str, int | str] | None = None,
        change_input: Callable[[str, torch.Tensor], torch.Tensor | None] | None = None,
        on_call: Callable[[str, TorchCall], None] | None = None,
        through: Mapping[str, tuple[nn.Module, ...]] | None = None,
    ) -> None:
        self._elements = elements or {}
        self._through = through or {}
        self._modules = at_same_object(modules)
        self._change_input = change_input
        self._on_call = on_call
        self._numbers: dict[int, int] = {}
        self._arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = []  # of the calls that are open
        self._handles: list[Any] = []
        self.calls: dict[str, TorchCall] = {}

    def __enter__(self) -> CallCapture:
        for place, (module, boundaries) in enumerate(self._modules):
            before, after = self._hooks(place, boundaries)
            first = (*self._through.get(boundaries[0], ()), module)[0]
            self._handles.append(first.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hooks(self, place: int, boundaries: list[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def before(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if self._change_input is not None:
                boundary = name_of_call(boundaries, self._numbers.get(place, 0))
                args, kwargs = with_input(args, kwargs, self._change_input(boundary, input_of(args, kwargs)))
            self._arguments.append(with_forks(args, kwargs))
            return args, kwargs

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            number = self._numbers.get(place, 0)
            self._numbers[place] = number + 1
            args, kwargs = self._arguments.pop()
            boundary = name_of_call(boundaries, number)
            through = self._through.get(boundaries[0], ())
            call = TorchCall(module, args, kwargs, output, self._elements.get(boundaries[0]), through)
            if self._on_call is None:
                self.calls[boundary] = call
            else:
                self._on_call(boundary, call)

        return before, after
