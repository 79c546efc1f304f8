"""One caller computes a result, and callers that arrive meanwhile or soon after share it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from coupon.domain.clock import Clock, monotonic_ms
from coupon.web.bulkhead import SLOW_MS

FRESH_MS = 1_000
"""A result that is younger is returned as it is."""
Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Calls ``compute``, which takes up to ``patience_ms``, in one thread at a time.

    Meanwhile other threads get the last result, if it is young enough. Otherwise they wait for the new one, up to
    ``SLOW_MS`` after its beginning.
    """

    def __init__(self, compute: Callable[[], Result], patience_ms: int, timer: Clock = monotonic_ms) -> None:
        self._compute, self._patience_ms, self._timer = compute, patience_ms, timer
        self._lock = threading.Lock()
        self._last: tuple[int, Result] | None = None
        self._pending: tuple[int, Future[Result]] | None = None

    def get(self) -> Result | None:
        """The result; None when it takes more than ``SLOW_MS`` to compute."""
        with self._lock:
            now = self._timer()
            fresh_ms = FRESH_MS if self._pending is None else FRESH_MS + self._patience_ms
            if self._last is not None and now - self._last[0] < fresh_ms:
                return self._last[1]
            computed = self._pending
            since, pending = self._pending = computed or (now, Future())
        if computed is None:
            return self._run(pending)
        try:
            return pending.result(max(since + SLOW_MS - now, 0) / 1000)
        except TimeoutError:
            return None

    def _run(self, pending: "Future[Result]") -> Result:
        """Compute the result, and return it to all callers that wait."""
        try:
            pending.set_result(self._compute())
        except BaseException as error:
            pending.set_exception(error)
        with self._lock:
            self._pending = None
            if pending.exception() is None:
                self._last = self._timer(), pending.result()
        return pending.result()
