"""Group commit: callers that come while others' work is on its way wait together, and are served in one go.

One of those who wait does it for all: there is no thread to start, to stop, or to lose in a fork, and whoever comes
alone is served by himself at once. In a crowd, and for two groups after one, he waits for two milliseconds first: twice
as many go together then, and what a group costs is shared by twice as many.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Work = TypeVar("Work")
CROWD = 4
"""So many in one of the last two groups are a crowd: those of a large one come back while a small one is served."""
PAUSE_S = 0.002


class _Call(Generic[Work]):
    """What one caller wants."""

    __slots__ = ("awake", "served", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.served = False
        self.awake = threading.Lock()
        self.awake.acquire()


class GroupCommit(Generic[Work]):
    """``serve`` is called by one thread at a time, with the work of all that wait, in the order in which they came, and
    with the time (``time.monotonic()``) until which it may take. It tells of the outcome in the work itself."""

    def __init__(self, serve: Callable[[Sequence[Work], float], None]) -> None:
        self._serve = serve
        self._gate = threading.Lock()
        self._waiting: list[_Call[Work]] = []
        self._sizes = deque([0, 0], maxlen=2)
        self._is_led = False

    def do(self, work: Work, deadline: float) -> None:
        """Return when it was served. Raises TimeoutError at the deadline: then it may be served yet, or not."""
        call = _Call(work)
        with self._gate:
            self._waiting.append(call)
            leads, self._is_led = not self._is_led, True
        if leads or self._is_to_lead(call, deadline):
            self._lead(deadline)

    def _is_to_lead(self, call: _Call[Work], deadline: float) -> bool:
        """Wait until the call was served, or is the one to serve all that wait."""
        if not call.awake.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._gate:
                if not call.awake.acquire(blocking=False):
                    if call in self._waiting:
                        self._waiting.remove(call)
                    raise TimeoutError
        return not call.served

    def _lead(self, deadline: float) -> None:
        if max(self._sizes) >= CROWD:
            time.sleep(PAUSE_S)
        with self._gate:
            calls, self._waiting = self._waiting, []
            self._sizes.append(len(calls))
        try:
            self._serve([call.work for call in calls], deadline)
        finally:
            with self._gate:
                if self._waiting:
                    self._waiting[-1].awake.release()  # it leads next: it came last, and has the most time left
                else:
                    self._is_led = False
            for call in calls:
                call.served = True
                call.awake.release()


class ForkedGroupCommit(Generic[Work]):
    """A ``GroupCommit`` for each process, made at its first call: safe to use on both sides of a fork."""

    def __init__(self, serve: Callable[[Sequence[Work], float], None]) -> None:
        self._serve = serve
        self._by_process: dict[int, GroupCommit[Work]] = {}

    def do(self, work: Work, deadline: float) -> None:
        """As ``GroupCommit.do``."""
        group = self._by_process.get(os.getpid()) or self._by_process.setdefault(os.getpid(), GroupCommit(self._serve))
        group.do(work, deadline)
