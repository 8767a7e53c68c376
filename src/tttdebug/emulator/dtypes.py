# SPDX-License-Identifier: Apache-2.0
"""ttnn's data types and layouts, and the format behind each data type."""

from __future__ import annotations

from enum import Enum

from tttdebug.emulator.formats import FORMATS, BlockFormat, FloatFormat, Format

TILE = 32


class DataType(Enum):
    """The element types of a ttnn tensor that the emulator knows; the value is the format's name."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    UINT32 = "uint32"
    BFLOAT8_B = "bfloat8_b"
    BFLOAT4_B = "bfloat4_b"
    UINT8 = "uint8"
    UINT16 = "uint16"
    INT32 = "int32"

    @property
    def format(self) -> Format:
        return FORMATS[self.value]

    @property
    def is_float(self) -> bool:
        return isinstance(self.format, (FloatFormat, BlockFormat))

    @property
    def is_block(self) -> bool:
        return isinstance(self.format, BlockFormat)

    def __repr__(self) -> str:
        return f"DataType.{self.name}"

    __str__ = __repr__


class Layout(Enum):
    """How elements lie in memory; block formats exist in tiles of 32×32 only."""

    ROW_MAJOR = 0
    TILE = 1

    def __repr__(self) -> str:
        return f"Layout.{self.name}"

    __str__ = __repr__


class StorageType(Enum):
    """Where a tensor lives."""

    HOST = 0
    DEVICE = 1

    def __repr__(self) -> str:
        return f"StorageType.{self.name}"

    __str__ = __repr__


def round_up(size: int, multiple: int = TILE) -> int:
    return -(-size // multiple) * multiple
