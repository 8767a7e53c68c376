# SPDX-License-Identifier: Apache-2.0
"""Threads that suit the machine, set before torch is imported: none that spins, no more than a container may run."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def suit_machine(environment: MutableMapping[str, str], control_groups: Path = CONTROL_GROUPS) -> None:
    """Set OpenMP's variables where the user has not: on a busy machine spinning threads are many times slower, and so
    is a thread for each processor of a host that a container has a share of.
    """
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    allowed = processors_allowed(control_groups)
    if allowed is not None and allowed < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(allowed))


def processors_allowed(control_groups: Path) -> int | None:
    """How many processors' time the container has, a part of one counted as one; None where it has no limit.

    Reads `cpu.max` of version 2 of control groups, else the two files of version 1 (kernel.org: admin-guide/cgroup-v2,
    scheduler/sched-bwc).
    """
    said = _read(control_groups / "cpu.max") or (
        *_read(control_groups / "cpu" / "cpu.cfs_quota_us"),
        *_read(control_groups / "cpu" / "cpu.cfs_period_us"),
    )
    if len(said) != 2 or not all(word.isdecimal() for word in said):  # no limit is "max", in version 1 it is −1
        return None
    quota, period = map(int, said)
    return max(1, math.ceil(quota / max(1, period)))


def _read(file: Path) -> tuple[str, ...]:
    """The words of a file; none where it cannot be read."""
    try:
        return tuple(file.read_text("ascii").split())
    except (OSError, ValueError):
        return ()
