# SPDX-License-Identifier: Apache-2.0
"""The error profiles of a few records of a run, without parsing all the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tttdebug.errors import RunError
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import PROFILES

_BETWEEN = ', "profile": '  # as RunWriter writes a line: its key, this, its profile


def profiles_of(run: Path, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """What `ErrorProfile` kept of these records, without those that none was kept of. Raises RunError for damage."""
    wanted = {f'{{"key": {json.dumps(vars(key))}': key for key in keys}
    path, found = run / PROFILES, {}
    if not wanted or not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            key = wanted.get(line.partition(_BETWEEN)[0])
            if key is None:
                continue
            try:
                found[key] = json.loads(line)["profile"]
            except ValueError as error:
                raise RunError(f"{path}, line {number}, is damaged ({error}); restore it, or run again") from None
            if len(found) == len(wanted):
                break
    return found
