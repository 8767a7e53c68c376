# SPDX-License-Identifier: Apache-2.0
"""What the modules of a reference gave in its last call, by their paths: for comparing a module at a time by hand."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.hooks import Captured, first_tensor

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tttdebug.references import Reference

_outputs: ContextVar[dict[str, Captured | None] | None] = ContextVar("reference_outputs", default=None)


@contextmanager
def watch_reference(model: Reference | nn.Module) -> Iterator[None]:
    """Keep what every module of `model` gives while the block lasts; the newest call counts.

    with td.watch_reference(model):
        model(input_ids)
        expected = td.get_reference_output("model.layers.15.self_attn")
    """
    from torch import nn

    root = model if isinstance(model, nn.Module) else model.model
    modules = dict(root.named_modules())
    outputs: dict[str, Captured | None] = dict.fromkeys(modules)

    def keep_as(path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            try:
                tensor = first_tensor(output)
            except PairingError:  # a module that gives no tensor has nothing to compare
                return
            outputs[path] = Captured(tensor.detach(), tensor._version)

        return keep

    handles = [module.register_forward_hook(keep_as(path)) for path, module in modules.items()]
    before = _outputs.set(outputs)
    try:
        yield
    finally:
        _outputs.reset(before)
        for handle in handles:
            handle.remove()


def get_reference_output(reference_module: str) -> torch.Tensor:
    """What the module at that path gave in the last call of the reference that is watched.

    Raises PairingError outside `watch_reference`, for a path that leads nowhere, and for a module that was not called.
    """
    outputs = _outputs.get()
    if outputs is None:
        raise PairingError("no reference is watched: run it within `with td.watch_reference(model):`")
    if reference_module not in outputs:
        nearest = difflib.get_close_matches(reference_module, outputs, n=3, cutoff=0.5)
        raise PairingError(f"the reference has no module {reference_module!r}; nearest: {', '.join(nearest) or 'none'}")
    captured = outputs[reference_module]
    if captured is None:
        raise PairingError(f"{reference_module} gave no tensor yet: run the reference within watch_reference first")
    return captured.unchanged(reference_module)
