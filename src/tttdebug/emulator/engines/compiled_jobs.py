# SPDX-License-Identifier: Apache-2.0
"""Running the jobs of compiled loops, which let go of the interpreter, on as many threads as torch uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Job = TypeVar("Job")


def run_jobs(work: Callable[[Job], object], jobs: Sequence[Job]) -> None:
    """`work` on every job. An exception of one is raised when all threads have stopped taking new ones."""
    threads = min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        _take(work, iter(jobs))
        return
    shared = iter(jobs)
    for running in [_pool().submit(_take, work, shared) for _ in range(threads)]:
        running.result()


def _take(work: Callable[[Job], object], jobs: Iterator[Job]) -> None:
    """Jobs until none is left; several threads may take from the same iterator."""
    for job in jobs:
        work(job)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="emulator")
