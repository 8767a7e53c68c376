# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the compiler of device kernels, which the ttnn wheel lacks: its programs do nothing.

Under a mock cluster no program ever runs, but ttnn compiles and links one for every op before it goes on. With this in
the compiler's place all of its host code runs: each op's checks of its operands, the choice of its program, the cores
and buffers that it takes, and the shape and placement of its result. What is NOT tested so is every kernel and every
number.
"""

from __future__ import annotations

import struct
import sys
from importlib.util import find_spec
from pathlib import Path

HEADER, SEGMENT, SECTION = 52, 32, 40
TEXT_ADDRESS, DATA_ADDRESS = 0x5000, 0xFFB00000  # in a core's L1, and in the memory of its own
COMPILER = "runtime/sfpi/compiler/bin/riscv-tt-elf-g++"


def build_runtime_root(folder: Path, package: Path) -> Path:
    """A folder to set TT_METAL_RUNTIME_ROOT to: all of the installed `package`, and the stand-in as its compiler."""
    root = folder / "runtime-root"
    (root / COMPILER).parent.mkdir(parents=True)
    for part in package.iterdir():
        if part.name != "runtime":
            (root / part.name).symlink_to(part)
    for part in (package / "runtime").iterdir():
        if part.name != "sfpi":
            (root / "runtime" / part.name).symlink_to(part)
    program = root / "runtime/sfpi/does-nothing.elf"
    program.write_bytes(empty_program())
    compiler = root / COMPILER
    compiler.write_text(
        f"""#!/bin/sh
# Writes what a compiler would, but nothing of what it was given: see {Path(__file__).name}.
out= dependencies=
while [ $# -gt 0 ]; do
    case "$1" in
        --version) echo "stand-in, compiles nothing"; exit 0 ;;
        -o) out=$2; shift ;;
        -MF) dependencies=$2; shift ;;
    esac
    shift
done
[ -z "$dependencies" ] || echo "$out:" > "$dependencies"
case "$out" in
    *.elf) cp '{program}' "$out" ;;
    *) : > "$out" ;;
esac
"""
    )
    compiler.chmod(0o755)
    return root


def empty_program() -> bytes:
    """An executable of a RISC-V core with a `ret`, four words of zeros, and the tables that the loader asks for."""
    names = b"\0.text\0.data\0.rela.text\0.symtab\0.strtab\0.shstrtab\0"
    text_at = HEADER + 2 * SEGMENT + 12  # the next multiple of 16
    data_at, symbols_at, strings_at, names_at = text_at + 16, text_at + 32, text_at + 48, text_at + 52
    sections_at = -(-(names_at + len(names)) // 4) * 4

    def section(name: bytes, *fields: int) -> bytes:
        return struct.pack("<10I", names.index(b"\0" + name + b"\0") + 1, *fields)

    header = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    header += struct.pack(
        "<HHIIIIIHHHHHH", 2, 243, 1, TEXT_ADDRESS, HEADER, sections_at, 0, HEADER, SEGMENT, 2, SECTION, 7, 6
    )
    segments = struct.pack("<8I", 1, text_at, TEXT_ADDRESS, TEXT_ADDRESS, 16, 16, 5, 4)
    segments += struct.pack("<8I", 1, data_at, DATA_ADDRESS, TEXT_ADDRESS + 16, 16, 16, 6, 4)
    contents = struct.pack("<4I", 0x8067, 0, 0, 0) + bytes(16 + 16 + 4) + names
    sections = bytes(SECTION) + b"".join(
        [
            section(b".text", 1, 6, TEXT_ADDRESS, text_at, 16, 0, 0, 4, 0),
            section(b".data", 1, 3, DATA_ADDRESS, data_at, 16, 0, 0, 4, 0),
            section(b".rela.text", 4, 0x40, 0, symbols_at, 0, 4, 1, 4, 12),
            section(b".symtab", 2, 0, 0, symbols_at, 16, 5, 1, 4, 16),
            section(b".strtab", 3, 0, 0, strings_at, 4, 0, 0, 1, 0),
            section(b".shstrtab", 3, 0, 0, names_at, len(names), 0, 0, 1, 0),
        ]
    )
    before = (header + segments).ljust(text_at, b"\0")
    return (before + contents).ljust(sections_at, b"\0") + sections


if __name__ == "__main__":
    specification = find_spec("ttnn")
    if specification is None or specification.origin is None:
        sys.exit("ttnn is not installed in this environment")
    print(build_runtime_root(Path(sys.argv[1]), Path(specification.origin).parent))
