# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face model from its config and its weights: every weight in its place, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from tttdebug.errors import SpecError, WeightsError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

ATTENTION = "sdpa"
"""torch's fused attention: as accurate in fp32 as the eager form (benchmarks/load_reference.py), and it never holds the
whole matrix of scores, which at 8,192 tokens is 2.4 GB a layer."""


LONGEST = 300  # characters of another package's error that are passed on


def load_pretrained(
    config: PretrainedConfig,
    weights: Path | Mapping[str, torch.Tensor],
    *,
    origin: Path,
    dtype: torch.dtype,
) -> PreTrainedModel:
    """The model that a config describes with the weights of a Hugging Face folder, or those given by name.

    It is in evaluation mode, its parameters want no gradient. Raises WeightsError, naming `origin`, where a weight is
    missing or misshapen, or the files are damaged.
    """
    place: dict[str, Any] = (
        {"pretrained_model_name_or_path": weights, "local_files_only": True}
        if isinstance(weights, Path)
        else {"pretrained_model_name_or_path": None, "state_dict": dict(weights)}
    )
    try:
        with _nothing_on_the_console():
            model, found = _model_class(config, origin).from_pretrained(
                config=config,
                attn_implementation=_attention_of(config, origin),
                ignore_mismatched_sizes=True,  # they are named below
                output_loading_info=True,
                **{_dtype_keyword(): dtype},
                **place,
            )
    except what_transformers_raises() as error:
        raise WeightsError(
            f"the weights in {origin} cannot be loaded ({in_one_line(error)}): fetch them again"
        ) from error
    for entry in found["mismatched_keys"]:
        name = entry if isinstance(entry, str) else entry[0]  # older versions of transformers give names only
        raise WeightsError(
            f"{name} in {origin} has not the shape {list(model.state_dict()[name].shape)} that the config gives it: "
            "config and weights belong to different models"
        )
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(
            f"{origin} lacks {len(missing)} of the model's weights, {missing[0]} for one: it belongs to another model, "
            "or was not saved whole"
        )
    beyond = config.num_hidden_layers  # layers that keep_layers dropped
    if unused := sorted(name for name in found["unexpected_keys"] if not _of_a_layer_from(beyond, name)):
        logger.warning("{} holds {} weights that the model does not have, {} for one", origin, len(unused), unused[0])
    return model.eval().requires_grad_(False)


def empty_model(config: PretrainedConfig, *, origin: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model that a config describes, as `load_pretrained` makes it, but with every parameter on the meta device.

    Its buffers are real: rotary frequencies, which no file holds. Raises WeightsError where it cannot be made.
    """
    from torch import nn
    from torch.nn.modules.module import register_module_parameter_registration_hook

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)

    hook = register_module_parameter_registration_hook(on_meta)
    try:
        with _nothing_on_the_console():
            model: PreTrainedModel = _model_class(config, origin)._from_config(
                config, attn_implementation=_attention_of(config, origin), **{_dtype_keyword(): dtype}
            )
    except what_transformers_raises() as error:
        raise WeightsError(f"the model of {origin} cannot be made ({in_one_line(error)})") from error
    finally:
        hook.remove()
    return model


def keep_layers(config: PretrainedConfig, layers: int | None) -> None:
    """Cut a config to its first `layers` decoder layers. Raises SpecError where it has fewer."""
    if layers is None:
        return
    if not 1 <= layers <= config.num_hidden_layers:
        raise SpecError(
            f"layers is {layers}, but the model has {config.num_hidden_layers}: "
            f"give a number from 1 to {config.num_hidden_layers}"
        )
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:layers]


def what_transformers_raises() -> tuple[type[Exception], ...]:
    """The errors of transformers for a config or weights that it cannot take; newer versions have huggingface_hub's."""
    from huggingface_hub import errors
    from safetensors import SafetensorError

    strict = getattr(errors, "StrictDataclassError", ValueError)
    return (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, strict)


def in_one_line(error: BaseException) -> str:
    """What another package's error says, without its line breaks and not longer than a reader bears."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"


def _model_class(config: PretrainedConfig, origin: Path) -> Any:
    """The class that the config names, so that a model with another head is not taken for a language model."""
    import transformers

    names = config.architectures or ["(none)"]
    if not hasattr(transformers, names[0]):
        raise WeightsError(
            f"{origin} names the architecture {names[0]}, which transformers {transformers.__version__} does not have: "
            "set `architectures` in its config.json, or use a version of transformers that has it"
        )
    return getattr(transformers, names[0])


def _attention_of(config: PretrainedConfig, origin: Path) -> str:
    """The fused form, but for the few models that have none: those that cap their scores."""
    return ATTENTION if getattr(_model_class(config, origin), "_supports_sdpa", True) else "eager"


def _dtype_keyword() -> str:
    """`dtype`, which transformers called `torch_dtype` before 4.56."""
    import transformers

    major, minor = transformers.__version__.split(".")[:2]
    return "dtype" if (int(major), int(minor)) >= (4, 56) else "torch_dtype"


def _of_a_layer_from(first: int, name: str) -> bool:
    numbers = re.findall(r"\.(\d+)\.", name)
    return bool(numbers) and int(numbers[0]) >= first


@contextmanager
def _nothing_on_the_console() -> Iterator[None]:
    """Silence transformers' own progress bars and reports: what matters in them is said here."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
