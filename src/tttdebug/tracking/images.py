# SPDX-License-Identifier: Apache-2.0
"""Images as a model of images reads them: from files, or of random pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import PromptError

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels [C, H, W] as the model reads them, and what to say of them."""

    text: str
    pixels: torch.Tensor

    @property
    def inputs(self) -> torch.Tensor:
        """The pixels [C, H, W]."""
        return self.pixels


def read_image(reference: Reference, path: Path) -> Image:
    """The picture in a file as the model's own image processor prepares it.

    A model without one gets it in its own size, values from -1 to 1, as ViT's checkpoints want them. Raises PromptError
    for a file that holds no picture.
    """
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(path) as picture:
            picture = picture.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise PromptError(f"--image {path}: cannot read that file as a picture ({error})") from None
    if reference.image_processor is not None:
        pixels = reference.image_processor(picture, return_tensors="pt")["pixel_values"][0]
        return Image(f"{path.name}, prepared by the model's image processor", pixels)
    return Image(f"{path.name}, resized, values from -1 to 1", _resized(picture, *_shape(reference)))


def random_image(reference: Reference, seed: int) -> Image:
    """An image of normally distributed pixels: exercises every module, but is nothing that the model was trained on."""
    import torch

    shape = _shape(reference)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Image(f"random pixels {'x'.join(map(str, shape))}, seed {seed}", pixels)


def _shape(reference: Reference) -> tuple[int, int, int]:
    """Channels, height and width that the model takes."""
    size = reference.config.image_size
    return int(reference.config.num_channels), int(size), int(size)


def _resized(picture: object, channels: int, height: int, width: int) -> torch.Tensor:
    import numpy as np
    import torch
    from PIL.Image import Resampling

    if channels != 3:
        raise PromptError(
            f"the model takes images of {channels} channels, a picture file gives 3: compare it in Python"
        )
    resized = picture.resize((width, height), Resampling.BILINEAR)  # type: ignore[attr-defined]
    values_HWC = torch.from_numpy(np.asarray(resized, dtype=np.float32).copy())
    return (values_HWC / 127.5 - 1.0).permute(2, 0, 1)
