# SPDX-License-Identifier: Apache-2.0
"""`tttdebug cache list`, `verify` and `prune`: the goldens that runs keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path | None, typer.Option("--cache", help="A folder of goldens; default that within TTTDEBUG_CACHE.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]


def list_goldens(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the goldens, the least recently used first: the next ones to go.

    Exit codes: 0, or 2 where the cache cannot be read.
    """
    from tttdebug.references.golden_cache import golden_cache_at
    from tttdebug.reporting import console
    from tttdebug.reporting.golden_table import dumps, golden_table

    cache = golden_cache_at(folder)
    kept = cache.kept()
    if as_json:
        typer.echo(dumps(cache, kept))
    else:
        console.OUT.print(golden_table(cache, kept))


def verify(folder: Folder = None, as_json: AsJson = False) -> None:
    """Read every byte of every golden and say which are damaged.

    Exit codes: 0 none is, 1 some are, 2 no result: the cache cannot be read.
    """
    from tttdebug.references.golden_cache import golden_cache_at
    from tttdebug.reporting import console
    from tttdebug.reporting.golden_table import dumps, faults_text, golden_table

    cache = golden_cache_at(folder)
    kept = list(cache.verified())
    if as_json:
        typer.echo(dumps(cache, kept))
    else:
        console.OUT.print(golden_table(cache, kept))
        console.OUT.print(faults_text(kept))
    raise typer.Exit(1 if any(each.fault for each in kept) else 0)


def prune(
    folder: Folder = None,
    limit: Annotated[
        str | None, typer.Option(help="What may stay, such as 500M or 10G; default TTTDEBUG_CACHE_LIMIT, else 10G.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every golden.")] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Read every byte, and remove what is damaged too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what killed processes left, and the least recently used goldens beyond the limit.

    Exit codes: 0, or 2 where the cache cannot be changed.
    """
    from tttdebug.references.golden_cache import golden_cache_at, parse_size
    from tttdebug.reporting import console
    from tttdebug.reporting.golden_table import dumps, pruned_text

    cache = golden_cache_at(folder, None if limit is None else parse_size(limit))
    removed = cache.prune(0 if everything else cache.limit, damaged=damaged)
    if as_json:
        typer.echo(dumps(cache, removed))
    else:
        console.OUT.print(pruned_text(cache, removed))
