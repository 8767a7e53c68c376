# SPDX-License-Identifier: Apache-2.0
"""What a job's sides are fed with: prompts as text, token ids or images, and the port's weights out of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import PromptError, WeightsError

if TYPE_CHECKING:
    import torch

    from tttdebug.job import Job
    from tttdebug.references import Reference
    from tttdebug.tracking.prompts import Input


def texts_of(job: Job) -> list[str | list[int]]:
    """The texts and token ids that a job names. Raises PromptError for one that cannot be read."""
    return [*map(_text, job.prompts), *map(_token_ids, job.token_ids)]


def prompts_of(job: Job, reference: Reference, texts: list[str | list[int]]) -> list[Input]:
    """What both sides read: the texts or images that were asked for, else the default text or random pixels."""
    from tttdebug.tracking.images import random_image, read_image
    from tttdebug.tracking.prompts import default_prompt

    if not reference.reads_images:
        if job.images:
            raise PromptError(f"--image: {reference.name} reads text, not images; give --prompt")
        return [*texts] or [default_prompt()]
    if texts:
        raise PromptError(f"--prompt: {reference.name} reads images, not text; give --image FILE")
    return [read_image(reference, path) for path in job.images] or [random_image(reference, job.seed)]


def what_is_read(reference: Reference, prompt: Input, decode_steps: int) -> tuple[int, ...] | torch.Tensor:
    """A prompt as token ids, or an image's pixels."""
    from tttdebug.tracking.images import Image
    from tttdebug.tracking.prompts import read_prompt

    return prompt.pixels if isinstance(prompt, Image) else read_prompt(reference, prompt, decode_steps).token_ids


def _token_ids(ids: str) -> list[int]:
    """Token ids out of a text such as `5 17 3`."""
    try:
        return [int(word) for word in ids.replace(",", " ").split()]
    except ValueError:
        raise PromptError(f"--token-ids {ids}: give whole numbers, such as '5 17 3'") from None


def _text(prompt: str) -> str:
    """The prompt itself, or with @FILE the text of that file."""
    if not prompt.startswith("@"):
        return prompt
    try:
        return Path(prompt[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"--prompt {prompt}: cannot read that file as text ({error})") from None


def state_dict_of(path: Path | None) -> dict[str, torch.Tensor] | None:
    """The weights of a safetensors file, or of all such files in a folder, under the reference's names."""
    if path is None:
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise WeightsError(f"--port-weights {path} holds no .safetensors file")
    state: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"--port-weights {file} cannot be read as safetensors ({error})") from None
    return state
