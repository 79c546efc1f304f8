"""One asks, and all who come meanwhile or soon after are told the same."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from coupon.domain.clock import Clock, monotonic_ms
from coupon.web.bulkhead import SLOW_MS

FRESH_MS = 1_000
"""An answer that is younger is told without asking."""
Told = TypeVar("Told")


class SingleFlight(Generic[Told]):
    """``ask`` takes up to ``patience_ms``, and one thread at a time is in it. Meanwhile the last answer goes on being
    told; where there is none, or none so young, others wait for the new one for as long as it may come soon."""

    def __init__(self, ask: Callable[[], Told], patience_ms: int, timer: Clock = monotonic_ms) -> None:
        self._ask, self._patience_ms, self._timer = ask, patience_ms, timer
        self._lock = threading.Lock()
        self._last: tuple[int, Told] | None = None
        self._asking: tuple[int, Future[Told]] | None = None

    def get(self) -> Told | None:
        """The answer; None when there is none, and who asks for it has waited for ``SLOW_MS`` already."""
        with self._lock:
            now = self._timer()
            fresh_ms = FRESH_MS if self._asking is None else FRESH_MS + self._patience_ms
            if self._last is not None and now - self._last[0] < fresh_ms:
                return self._last[1]
            others = self._asking
            since, asking = self._asking = others or (now, Future())
        if others is None:
            return self._answer(asking)
        try:
            return asking.result(max(since + SLOW_MS - now, 0) / 1000)
        except TimeoutError:
            return None

    def _answer(self, asking: "Future[Told]") -> Told:
        """Ask, and tell the others."""
        try:
            asking.set_result(self._ask())
        except BaseException as error:
            asking.set_exception(error)
        with self._lock:
            self._asking = None
            if asking.exception() is None:
                self._last = self._timer(), asking.result()
        return asking.result()
