# SPDX-License-Identifier: Apache-2.0
"""A model of the Hugging Face hub as a folder: from its own cache where it is there whole, else downloaded."""

from __future__ import annotations

from pathlib import Path

from tttdebug.errors import WeightsError
from tttdebug.references.folder import weights_files
from tttdebug.references.pretrained import in_one_line
from tttdebug.references.reference import Progress, say_nothing

FILES = ["*.json", "model*.safetensors", "tokenizer.model", "merges.txt", "vocab.txt"]
"""Of a repository, what a model and its tokenizer are loaded from."""


def hub_folder(model_id: str, progress: Progress = say_nothing) -> Path:
    """The folder of a model of the hub, in the hub's own cache (`HF_HOME`); its latest version there is taken.

    Nothing is asked of the network when that is whole, nor where `HF_HUB_OFFLINE` is set. Raises WeightsError where the
    model cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model_id, allow_patterns=FILES, local_files_only=True))
        weights_files(folder)
    except (LocalEntryNotFoundError, WeightsError):
        return _download(model_id, progress)
    return folder


def _download(model_id: str, progress: Progress) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(
            f"{model_id} is not whole in the Hugging Face cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE is set: "
            "unset it, or give the model as a folder with --weights"
        )
    progress(f"downloading {model_id}", None)
    try:
        return Path(snapshot_download(model_id, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(
            f"{model_id} cannot be fetched from the Hugging Face hub ({in_one_line(error)}): check the name, your "
            "access (`hf auth login`) and the network, or give the model as a folder with --weights"
        ) from error
