"""A bulkhead for each backend, so that a backend that hangs does not hold all threads of a web process.

Only some threads may wait for a backend at a time, and none once it is known to hang. A backend that fails at once (a
refused connection, a throttled write) costs no thread, and is asked each time.
"""

import threading
from functools import partial
from math import ceil
from typing import Any, TypeVar, cast

import structlog

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendLeftAlone, BackendUnavailable
from coupon.ports.backend import Backend
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.runtime.circuit_breaker import CircuitBreaker
from coupon.runtime.wiring import Backends

SLOW_MS = 250
"""A call that fails after so long counts as hanging: it has held a thread."""
PAUSE_MAX_MS = 2_000
"""The longest pause between two trials of a backend that hangs: a trial holds one thread."""
SHARE_FOR_COMMANDS, SHARE_FOR_SEARCH = 3 / 4, 3 / 8
"""This share of a process's threads may wait for one backend. The rest are left for other requests, and for probes."""
PATIENCE_FOR_COMMANDS_MS, PATIENCE_FOR_SEARCH_MS = 1_000, 250
UNGUARDED = {"from_url", "ping", "close", "count"}
"""To count takes the longer the more coupons there are, and tells nothing of a backend that hangs."""
AnyBackend = TypeVar("AnyBackend", bound=Backend)
log = structlog.get_logger("coupon.guard")


class Bulkhead:
    """Lets up to ``limit`` threads at a time call a backend.

    The next thread waits until one of them returns. It is refused at once when the longest call has lasted for
    ``patience_ms``. A backend hangs when a call fails after ``SLOW_MS`` or more, and no other call ended meanwhile.
    Then all threads are refused, except one trial at a time when the circuit breaker allows it.
    """

    def __init__(self, role: str, limit: int, patience_ms: int, timer: Clock = monotonic_ms) -> None:
        self._role, self._limit, self._patience_ms, self._timer = role, limit, patience_ms, timer
        self._circuit = CircuitBreaker(role, timer, PAUSE_MAX_MS)
        self._lock = threading.Lock()
        self._one_has_left = threading.Condition(self._lock)
        self._waiting = 0
        self._inside: dict[object, int] = {}
        """The calls in progress, oldest first, each with the time of its beginning."""
        self._successes = 0
        self._hangs_since: int | None = None

    def call(self, backend: Backend, method: str, *arguments: Any, **named: Any) -> Any:
        """Call the backend's method, or raise BackendLeftAlone without a call."""
        me, hung, successes = object(), False, self._successes
        began = self._enter(me)
        try:
            return getattr(backend, method)(*arguments, **named)
        except BackendUnavailable:
            hung = self._timer() - began >= SLOW_MS
            raise
        finally:
            self._leave(me, began, successes, hung=hung)

    def _enter(self, me: object) -> int:
        """Wait for admission, and return the time of it in milliseconds."""
        with self._lock:
            while True:
                now = self._timer()
                if self._hangs_since is not None and (self._inside or self._circuit.is_open()):
                    raise BackendLeftAlone(f"the {self._role} hangs, and is left alone for a moment")
                if len(self._inside) < self._limit:
                    self._inside[me] = now
                    return now
                left_ms = next(iter(self._inside.values())) + self._patience_ms - now
                if left_ms <= 0:
                    raise BackendLeftAlone(f"{self._limit} threads wait for the {self._role} already")
                self._waiting += 1
                try:
                    self._one_has_left.wait(left_ms / 1000)
                finally:
                    self._waiting -= 1

    def _leave(self, me: object, began: int, successes: int, *, hung: bool) -> None:
        """``successes`` is the number of calls that had succeeded when this one began."""
        with self._lock:
            del self._inside[me]
            if not hung:
                self._successes += 1
                if self._hangs_since is not None:
                    self._mark_recovered()
            elif self._successes == successes:
                self._mark_hanging(began)
            if self._waiting:
                self._one_has_left.notify()

    def _mark_recovered(self) -> None:
        self._hangs_since = None
        self._circuit.close()
        log.info("backend hangs no longer", role=self._role)

    def _mark_hanging(self, began: int) -> None:
        """Only the first failure counts: calls that were in progress by then fail for the same reason."""
        if self._hangs_since is None:
            log.warning("backend hangs", role=self._role)
        elif began <= self._hangs_since:
            return
        self._hangs_since = self._timer()
        self._circuit.open()


def guard_backends(backends: Backends, threads: int, timer: Clock) -> Backends:
    """The backends of a process with that number of threads, each behind a bulkhead.

    The cache needs none: it hangs for a fifth of a second, and then avoids a silent server by itself.
    """

    def bulkhead(role: str) -> Bulkhead:
        return Bulkhead(role, ceil(threads * SHARE_FOR_COMMANDS), PATIENCE_FOR_COMMANDS_MS, timer)

    lists = Bulkhead("search", ceil(threads * SHARE_FOR_SEARCH), PATIENCE_FOR_SEARCH_MS, timer)
    return Backends(
        cache=backends.cache,
        queue=guarded(Queue, backends.queue, bulkhead("queue")),  # type: ignore[type-abstract]
        store=guarded(Store, backends.store, bulkhead("store")),  # type: ignore[type-abstract]
        search=guarded(Search, backends.search, lists),  # type: ignore[type-abstract]
    )


def guarded(contract: type[AnyBackend], backend: AnyBackend, bulkhead: Bulkhead) -> AnyBackend:
    """The backend, with each method of the contract behind the bulkhead."""
    return cast(AnyBackend, _BehindBulkhead(backend, contract.__abstractmethods__ - UNGUARDED, bulkhead))


class _BehindBulkhead:
    def __init__(self, backend: Backend, methods: frozenset[str], bulkhead: Bulkhead) -> None:
        self._backend = backend
        for method in methods:
            setattr(self, method, partial(bulkhead.call, backend, method))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
