# SPDX-License-Identifier: Apache-2.0
"""Calls that go through the same stops side by side: none passes a stop before all others have reached it.

Each call has a thread of its own, since its stops are deep within somebody else's code, but only one runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Generic, TypeVar

from tttdebug.errors import WeightsError

T = TypeVar("T")


class _Cancelled(BaseException):
    """Raised within a call at its stop because another call failed."""


class _Lane(Generic[T]):
    """One call. `at` is the stop where it waits, None before its start and after its end."""

    def __init__(self, call: Callable[[], T], here: threading.local, threads: Executor) -> None:
        self.at: int | None = None
        self._cancelled = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = threads.submit(copy_context().run, self._run, call, here)

    @property
    def result(self) -> T:
        """What the call gave. Raises what it raised."""
        return self._ended.result()

    def resume(self) -> None:
        """Let the call run to its next stop or its end. Raises what it raises."""
        self.at = None
        self._go.release()
        self._back.acquire()
        if self.at is None:
            self._ended.result()

    def stop(self, place: int) -> None:
        """Within the call: wait here."""
        self.at = place
        self._back.release()
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled

    def cancel(self) -> None:
        """End a call wherever it waits."""
        self._cancelled = True
        self._go.release()

    def _run(self, call: Callable[[], T], here: threading.local) -> T:
        try:
            self._go.acquire()
            if self._cancelled:
                raise _Cancelled
            here.lane = self
            return call()
        finally:
            here.lane = None
            self._back.release()


class Lockstep:
    """What calls have in common that go through the same stops."""

    def __init__(self) -> None:
        self._here = threading.local()

    @property
    def inside(self) -> bool:
        """Whether this is within a call of `run`."""
        return getattr(self._here, "lane", None) is not None

    def stop(self, place: int) -> bool:
        """Within a call: wait until all others are here. False outside of `run`, where nobody is waited for."""
        lane: _Lane[object] | None = getattr(self._here, "lane", None)
        if lane is None:
            return False
        lane.stop(place)
        return True

    def run(self, calls: Sequence[Callable[[], T]], at: Callable[[int], AbstractContextManager[None]]) -> list[T]:
        """What the calls give. All pass a stop within the block `at(place)`, one after the other.

        Raises what a call raises; WeightsError where they do not come to the same stops.
        """
        with ThreadPoolExecutor(len(calls)) as threads:
            lanes = [_Lane(call, self._here, threads) for call in calls]
            try:
                for lane in lanes:
                    lane.resume()
                while any(lane.at is not None for lane in lanes):
                    places = {lane.at for lane in lanes}
                    place = places.pop()
                    if places or place is None:
                        raise WeightsError("the prompts go through the model's layers in other orders: run one alone")
                    with at(place):
                        for lane in lanes:
                            lane.resume()
                return [lane.result for lane in lanes]
            finally:
                for lane in lanes:
                    lane.cancel()
