# SPDX-License-Identifier: Apache-2.0
"""Goldens of the cache as a table, and what became of them when it was verified or pruned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tttdebug.references.golden_cache import GoldenCache, KeptGolden

_SHOWN = 8  # digits of a digest


def golden_table(cache: GoldenCache, kept: Sequence[KeptGolden]) -> Group:
    """A row a golden: the beginning of its name, what it is of, its size, when it was last used; below them the sum.

    A prompt is told as its tokens and the decode steps after them.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("golden", min_width=_SHOWN)
    table.add_column("model", no_wrap=True)
    table.add_column("weights", min_width=_SHOWN)
    table.add_column("dtype", min_width=_SHOWN)
    for title in ("prompt", "size", "used"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in kept:
        parts = {} if each.head is None else each.head.key.parts
        name = each.folder.name[:_SHOWN]
        table.add_row(
            Text(f"{name} damaged", style="bold red") if each.fault else name,
            parts.get("architecture", "?"),
            parts.get("checkpoint", "?")[:_SHOWN],
            parts.get("dtype", "?"),
            _prompt(parts),
            as_size(each.bytes),
            f"{datetime.fromtimestamp(each.used):%b %d %H:%M}",
        )
    summary = Text(f"{_counted(kept)} of at most {as_size(cache.limit)} in {cache.folder}", style="dim")
    return Group(table, summary) if kept else Group(summary)


def faults_text(kept: Sequence[KeptGolden]) -> Text:
    """What `verify` found."""
    faults = [each.fault for each in kept if each.fault]
    if not faults:
        return Text("every golden is as it was written", style="green")
    text = Text("\n".join(faults), style="bold red")
    return text.append("\n`tttdebug cache prune --damaged` removes them; a run makes them anew", style="none")


def pruned_text(cache: GoldenCache, removed: Sequence[KeptGolden]) -> Text:
    """What `prune` did."""
    return Text(f"removed {_counted(removed)}; {_counted(cache.kept())} left in {cache.folder}")


def dumps(cache: GoldenCache, kept: Sequence[KeptGolden]) -> str:
    """The cache and these goldens as JSON."""
    goldens = [
        {
            "folder": str(each.folder),
            "bytes": each.bytes,
            "used": datetime.fromtimestamp(each.used).astimezone().isoformat(timespec="seconds"),
            "fault": each.fault,
            "key": None if each.head is None else dict(each.head.key.parts),
        }
        for each in kept
    ]
    return json.dumps({"cache": str(cache.folder), "limit": cache.limit, "goldens": goldens}, indent=1)


def as_size(count: int) -> str:
    """Bytes as a reader likes them: `3.1 MiB`."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def _prompt(parts: Mapping[str, str]) -> str:
    """How many tokens it has, and decode steps after them; of an image the beginning of its digest."""
    words = parts.get("prompt", "").split()
    if len(words) == 1 and len(words[0]) == 64:
        return words[0][:_SHOWN]
    return f"{len(words)} + {parts['decode_steps']}" if "decode_steps" in parts else "?"


def _counted(kept: Sequence[KeptGolden]) -> str:
    size = as_size(sum(each.bytes for each in kept))
    return f"{len(kept)} {'golden' if len(kept) == 1 else 'goldens'}, {size}"
