# SPDX-License-Identifier: Apache-2.0
"""How a port is run: one of ours by its methods, a foreign one by the functions its user gives.

S sequence, B users, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.backends import UNKNOWN, DeviceDescription, describe_device, is_device
from tttdebug.errors import PairingError, PromptError
from tttdebug.tracking.layout import padded_lengths

if TYPE_CHECKING:
    import torch

Prefill = Callable[[Any, "torch.Tensor"], Any]
"""`prefill(port, token_ids[B, S]) -> logits`"""
Decode = Callable[[Any, "torch.Tensor", "torch.Tensor"], Any]
"""`decode(port, token_ids[B], positions[B]) -> logits`"""


@dataclass(frozen=True)
class Driver:
    """A port's calls.

    `start(users, length)` makes room for so many prompts, `prefill(ids_BS, row)` reads some into slots from `row` on,
    and `decode(ids_B, positions_B)`, where there is one, reads one more token of each. `foreign` ports know nothing of
    slots: each prompt is read as the only user, prefill and decode steps, before the next one; or, `together`, all of
    them in one prefill. Ours read one prompt after the other into slots of their own and decode all of them.
    """

    start: Callable[[int, int], None]
    prefill: Callable[[torch.Tensor, int], Any]
    decode: Callable[[torch.Tensor, torch.Tensor], Any] | None
    foreign: bool
    together: bool = False

    def groups(self, users: int) -> list[list[int]]:
        """Which users are in the port at the same time."""
        return [[user] for user in range(users)] if self.foreign and not self.together else [list(range(users))]

    def prefills(self, group: Sequence[int]) -> list[list[int]]:
        """Which of them are read in one call."""
        return [list(group)] if self.foreign else [[user] for user in group]


class EncoderDriver(Driver):
    """The calls of an encoder: `prefill(inputs_B, row)` reads one sentence [1, S] or one image [1, C, H, W] whole."""


def is_encoder(port: Any) -> bool:
    """Whether a port says by its methods that it is an encoder."""
    return callable(getattr(port, "encode", None))


def has_slots(port: Any) -> bool:
    """Whether a port is driven as those of `build_model` are: room for all prompts, each read into its own slot."""
    return callable(getattr(port, "allocate_cache", None)) and hasattr(port, "pairs")


def driver_of(port: Any, prefill: Prefill | None, decode: Decode | None, *, together: bool = False) -> Driver:
    """The driver of a port; its own methods where no functions are given, `encode` before all others.

    Raises PairingError when nothing says how to run it.
    """
    if prefill is None and decode is not None:
        raise PairingError("decode= is given without prefill=: a port decodes what it has prefilled, so give both")
    if prefill is None and is_encoder(port):
        return EncoderDriver(
            lambda users, length: None, lambda inputs_B, row: port.encode(inputs_B[0]), None, foreign=False
        )
    if prefill is None and has_slots(port):
        return Driver(port.allocate_cache, lambda ids_BS, row: port.prefill(ids_BS[0], row), port.decode, foreign=False)
    if prefill is None:
        reads, steps = (_method(port, name) for name in ("prefill", "decode"))
    else:
        reads, steps = partial(prefill, port), None if decode is None else partial(decode, port)
    if reads is None:
        raise PairingError(
            f"nothing says how to run a {type(port).__name__}: give prefill=f, and decode=g where it decodes, with "
            "f(port, token_ids[B, S]) and g(port, token_ids[B], positions[B]) returning logits; or give the port "
            "methods of these names"
        )
    return Driver(lambda users, length: None, lambda ids_BS, row: reads(ids_BS), steps, foreign=True, together=together)


def _method(port: Any, name: str) -> Callable[..., Any] | None:
    found = getattr(port, name, None)
    return found if callable(found) else None


def refuse_lengths(driver: Driver, lengths: Collection[int]) -> None:
    """Raise PromptError for prompts that one prefill cannot hold, or that it would leave two readings of."""
    if not driver.together or len(lengths) == 1:
        return
    if len(set(lengths)) > 1:
        raise PromptError(
            f"prompts of {', '.join(map(str, lengths))} tokens cannot be read in one prefill [B, S]: give prompts of "
            "one length, or leave out `together`"
        )
    tokens = next(iter(lengths))
    if tokens * len(lengths) in padded_lengths(tokens):
        raise PromptError(
            f"{len(lengths)} prompts of {tokens} tokens in one sequence are as long as one that is padded to "
            f"{tokens * len(lengths)}, so an output's rows could be either: give prompts of another length"
        )


def refuse_steps(driver: Driver, port: Any, decode_steps: int) -> None:
    """Raise PromptError for decode steps that the port cannot make."""
    if decode_steps and isinstance(driver, EncoderDriver):
        raise PromptError(f"{type(port).__name__} is an encoder and decodes nothing: give decode_steps=0")
    if decode_steps and driver.decode is None:
        raise PromptError(
            f"{decode_steps} decode steps, but nothing says how a {type(port).__name__} decodes: give decode=…, or "
            "decode_steps=0"
        )


def described(port: Any) -> DeviceDescription:
    """The device a port says it runs on; unknown where it does not say, until its first output shows it."""
    devices = (getattr(port, name, None) for name in ("device", "mesh_device"))
    device = next(filter(is_device, devices), None)
    return UNKNOWN if device is None else describe_device(device)


def what_is_missing(port: Any, *, audited: bool = False) -> tuple[str, ...]:
    """A sentence for each thing that a port does not declare, and what the run does instead. An audit finds formats."""
    missing = []
    if not callable(getattr(port, "declared_weights", None)):
        missing.append(
            "the port declares no weight formats: each floor has those that the audit found, and is silent on math "
            "fidelities"
            if audited
            else "the port declares no weight formats: each floor is that of the reference in bfloat16, and what "
            "coarser weights cost counts as the port's own error; an audit of its weights (--audit) finds them"
        )
    if not hasattr(port, "caches") and not hasattr(port, "encode"):
        missing.append("the port declares no key/value caches: none was compared")
    return tuple(missing)
