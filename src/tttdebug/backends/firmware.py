# SPDX-License-Identifier: Apache-2.0
"""Which kernel driver and firmware the cards of this machine run, as the driver itself says under /sys."""

from __future__ import annotations

from pathlib import Path

SYS = Path("/sys")


def kernel_driver(sys: Path = SYS) -> str:
    """The version of Tenstorrent's kernel driver; "" where it is not loaded."""
    return _read(sys / "module" / "tenstorrent" / "version")


def firmware(sys: Path = SYS) -> str:
    """The versions of the cards' firmware bundles, each once; "" where a driver is too old to say, or there is none."""
    cards = sorted((sys / "class" / "tenstorrent").glob("tenstorrent!*"))
    versions = (_read(card / "tt_fw_bundle_ver") for card in cards)
    return ", ".join(dict.fromkeys(version for version in versions if version))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # an attribute that this driver does not have, or a card that does not answer
        return ""
