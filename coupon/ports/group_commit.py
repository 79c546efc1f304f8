"""Group commit: calls that arrive while another one is in progress wait together, and are served in one go.

One of the waiting threads, the leader, serves all of them. So no thread has to be started, stopped, or kept through a
fork. A single call is served at once by its own thread. In a crowd, and for two groups after one, the leader waits
for two milliseconds first. Then a group has twice as many calls, which share its cost.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, Protocol, TypeVar

Work = TypeVar("Work")
Patience = Callable[[], AbstractContextManager[object]]
"""Makes a context in which a thread waits for long."""
AnyWork = TypeVar("AnyWork", contravariant=True)
CROWD = 4
"""Calls in one of the last two groups that make a crowd. Two, because callers of a large group come back while a small
one is served."""
PAUSE_S = 0.002


class NotServed(TimeoutError):
    """The work was not served, and will not be."""


class _Call(Generic[Work]):
    """The work of one caller."""

    __slots__ = ("awake", "served", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.served = False
        self.awake = threading.Lock()
        self.awake.acquire()


class GroupCommit(Generic[Work]):
    """Serves work in groups. ``serve`` is called by one thread at a time.

    Its arguments are the work of all waiting callers, in the order of their calls, and a deadline of
    ``time.monotonic()``. It returns each outcome in the work itself."""

    def __init__(self, serve: Callable[[Sequence[Work], float], None]) -> None:
        self._serve = serve
        self._gate = threading.Lock()
        self._waiting: list[_Call[Work]] = []
        self._sizes = deque([0, 0], maxlen=2)
        self._is_led = False

    def do(self, work: Work, deadline: float, begin_by: float | None = None, patience: Patience = nullcontext) -> None:
        """Return when the work was served. Raises NotServed when it still waits at ``begin_by``, which is the deadline
        unless given. Raises TimeoutError at the deadline: then it may yet be served.

        A caller whose group takes longer than ``begin_by`` waits for its end in the context of ``patience``."""
        call = _Call(work)
        with self._gate:
            self._waiting.append(call)
            leads, self._is_led = not self._is_led, True
        if leads or self._is_to_lead(call, deadline if begin_by is None else begin_by, deadline, patience):
            self._lead(deadline)

    def _is_to_lead(self, call: _Call[Work], begin_by: float, deadline: float, patience: Patience) -> bool:
        """Wait until the call was served, or is the one to serve all that wait."""
        if not self._is_awake(call, begin_by):
            with patience():
                if not self._is_awake(call, deadline):
                    raise TimeoutError
        return not call.served

    def _is_awake(self, call: _Call[Work], until: float) -> bool:
        """Whether the call is awake by then. Raises NotServed when it still waits then, and takes it back."""
        if call.awake.acquire(timeout=max(0.0, until - time.monotonic())):
            return True
        with self._gate:
            if call.awake.acquire(blocking=False):
                return True
            if call in self._waiting:
                self._waiting.remove(call)
                raise NotServed
        return False

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


class Group(Protocol[AnyWork]):
    """What those know of a group commit who wait in it."""

    def do(
        self, work: AnyWork, deadline: float, begin_by: float | None = None, patience: Patience = nullcontext
    ) -> None:
        """As ``GroupCommit.do``."""


class MakeGroup(Protocol):
    """Makes a group commit of its ``serve``. The simulation has one of its own."""

    def __call__(self, serve: Callable[[Sequence[Work], float], None]) -> Group[Work]: ...


class ForkedGroupCommit(Generic[Work]):
    """A ``GroupCommit`` for each process, made at its first call: safe to use on both sides of a fork."""

    def __init__(self, serve: Callable[[Sequence[Work], float], None]) -> None:
        self._serve = serve
        self._by_process: dict[int, GroupCommit[Work]] = {}

    def do(self, work: Work, deadline: float, begin_by: float | None = None, patience: Patience = nullcontext) -> None:
        """As ``GroupCommit.do``."""
        group = self._by_process.get(os.getpid()) or self._by_process.setdefault(os.getpid(), GroupCommit(self._serve))
        group.do(work, deadline, begin_by, patience)
