# SPDX-License-Identifier: Apache-2.0
"""How true each op of ttnn is here: exact, fast only, values only or missing.

`op_status.txt` has a line per emulated op: its name, its status and a note. `python -m tttdebug.emulator.status` prints
docs/emulator-ops.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.real_names import real_names, real_version


class Status(Enum):
    """How near an op is to the chip; the value is its word in op_status.txt."""

    EXACT = "exact"
    FAST_ONLY = "fast"
    VALUES_ONLY = "values"
    MISSING = "missing"

    @property
    def title(self) -> str:
        return {"fast": "fast only", "values": "values only"}.get(self.value, self.value)


MEANING = {
    Status.EXACT: "the exact engine gives the chip's bits: recordings show it, or elements are only copied or chosen",
    Status.FAST_ONLY: "the chip's formats, units and roundings are modelled, but no recording proves them to the bit",
    Status.VALUES_ONLY: "right up to the rounding of the output's data type; the kernel's own steps are not modelled",
    Status.MISSING: "not emulated; calling it raises an error that names it",
}

# Why an op is missing, the first pattern that fits.
_WHY = {
    "*_bw": "backward pass",
    "moreh_*": "training",
    "*conv*": "convolution",
    "*pool*": "pooling",
    "*fft*": "Fourier transform",
    "*twiddles*": "Fourier transform",
    "*quantize*": "integer quantisation",
    "*prefetcher*": "moves weights ahead of time",
    "*send_*": "sockets between hosts",
    "*recv_*": "sockets between hosts",
    "*moe*": "mixture of experts over devices",
    "all_to_all_*": "mixture of experts over devices",
    "experimental.all_to_all_*": "mixture of experts over devices",
    "experimental.deepseek_*": "one model's fused kernel",
    "experimental.dit_*": "one model's fused kernel",
    "experimental.wan_*": "one model's fused kernel",
    "experimental.llama_*": "one model's fused kernel",
    "*msda*": "deformable attention",
    "*deformable*": "deformable attention",
    "*gated_delta*": "linear attention",
    "transformer.*ring*": "attention over a ring of devices",
    "transformer.sparse_*": "sparse attention",
    "*indexer*": "sparse attention",
    "*complex*": "complex numbers",
    "real": "complex numbers",
    "imag": "complex numbers",
    "conj": "complex numbers",
    "polar": "complex numbers",
    "angle": "complex numbers",
    "is_imag": "complex numbers",
    "is_real": "complex numbers",
    "*test_*": "a test of ttnn's own",
    "composite_*": "an example of ttnn's own",
    "generic_op": "runs a user's own kernel",
    "experimental.prepare_generic_op": "runs a user's own kernel",
}


@dataclass(frozen=True)
class OpStatus:
    """An op of the real ttnn, and how true it is here."""

    name: str
    status: Status
    note: str = ""


def op_statuses() -> list[OpStatus]:
    """Every operation of the real ttnn, by name. Raises EmulatorError on a line that says something else."""
    listed = {}
    for line in Path(__file__).with_name("op_status.txt").read_text().splitlines():
        name, _, rest = line.partition(" ")
        word, _, note = rest.strip().partition(" ")
        try:
            listed[name] = OpStatus(name, Status(word), note.strip())
        except ValueError:
            words = ", ".join(status.value for status in Status)
            raise EmulatorError(f"op_status.txt: {line!r}: the status is one of {words}") from None
    operations = [name for name, kind in real_names().items() if kind == "operation"]
    unknown = listed.keys() - set(operations)
    if unknown:
        raise EmulatorError(f"op_status.txt: ttnn has no operation {', '.join(sorted(unknown))}")
    return [listed.get(name) or OpStatus(name, Status.MISSING, _why(name)) for name in sorted(operations)]


def _why(name: str) -> str:
    return next((reason for pattern, reason in _WHY.items() if fnmatchcase(name, pattern)), "")


def as_markdown() -> str:
    """The page docs/emulator-ops.md."""
    statuses = op_statuses()
    counts = Counter(op.status for op in statuses)
    lines = [
        "# Which ops the emulator has, and how true they are",
        "",
        f"The operations of ttnn {real_version()}: {len(statuses)}, of which "
        f"{len(statuses) - counts[Status.MISSING]} are emulated. Their names, arguments and defaults were read off the "
        "wheel; a test holds every emulated op to them.",
        "",
        "| status | ops | meaning |",
        "|---|---|---|",
        *(f"| {status.title} | {counts[status]} | {MEANING[status]} |" for status in Status),
        "",
        "This page is printed by `python -m tttdebug.emulator.status` from `op_status.txt`.",
    ]
    for status in (Status.EXACT, Status.FAST_ONLY, Status.VALUES_ONLY, Status.MISSING):
        lines += ["", f"## {status.title[0].upper()}{status.title[1:]}", "", "| op | note |", "|---|---|"]
        lines += [f"| `{op.name}` | {op.note} |" for op in statuses if op.status is status]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
