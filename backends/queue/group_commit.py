"""Group commit: callers that come while others' work is on its way wait together, and are served in one go.

One of those who wait does it for all: there is no thread to start, to stop, or to lose in a fork, and whoever comes
alone is served by himself at once.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Call(Generic[Work]):
    """What one caller wants. Whoever serves it sets ``failure`` if it failed."""

    __slots__ = ("awake", "failure", "served", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.failure: Exception | None = None
        self.served = False
        self.awake = threading.Lock()
        self.awake.acquire()


class GroupCommit(Generic[Work]):
    """``serve`` is called by one thread at a time, with all calls that wait and the time until which it may take
    (``time.monotonic()``)."""

    def __init__(self, serve: Callable[[Sequence[Call[Work]], float], None]) -> None:
        self._serve = serve
        self._gate = threading.Lock()
        self._waiting: list[Call[Work]] = []
        self._is_led = False

    def do(self, work: Work, deadline: float) -> None:
        """Return when it was served; raises the failure that it was served with, or TimeoutError: then it may be served
        yet, or not."""
        call = Call(work)
        with self._gate:
            self._waiting.append(call)
            leads, self._is_led = not self._is_led, True
        if leads or self._is_to_lead(call, deadline):
            self._lead(deadline)
        if call.failure is not None:
            raise call.failure

    def _is_to_lead(self, call: Call[Work], deadline: float) -> bool:
        """Wait until the call was served, or is the one to serve all that wait."""
        if not call.awake.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._gate:
                if not call.awake.acquire(blocking=False):
                    if call in self._waiting:
                        self._waiting.remove(call)
                    raise TimeoutError
        return not call.served

    def _lead(self, deadline: float) -> None:
        with self._gate:
            calls, self._waiting = self._waiting, []
        try:
            self._serve(calls, deadline)
        except BaseException as error:
            for call in calls:
                call.failure = RuntimeError(f"not served: {error!r}")
            raise
        finally:
            with self._gate:
                if self._waiting:
                    self._waiting[-1].awake.release()  # the last one has the most time left
                else:
                    self._is_led = False
            for call in calls:
                call.served = True
                call.awake.release()
