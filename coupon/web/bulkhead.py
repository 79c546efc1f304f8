"""What keeps a backend that hangs from taking all threads of a web process: of those who would wait for it only some
may, and once it is known to hang nobody does.

A backend that fails at once (a refused connection, a throttled write) costs no thread, and is asked each time.
"""

import threading
from functools import partial
from typing import Any, TypeVar, cast

import structlog

from coupon.domain.clock import Clock, monotonic_ms
from coupon.ports.backend import Backend, BackendUnavailable
from coupon.runtime.circuit_breaker import CircuitBreaker

SLOW_MS = 250
"""A failure that took so long cost a thread."""
PAUSE_MAX_MS = 2_000
"""So soon after it is back it is asked again: a trial costs one thread."""
UNGUARDED = {"from_url", "ping", "close"}
AnyBackend = TypeVar("AnyBackend", bound=Backend)
log = structlog.get_logger("coupon.guard")


class BackendLeftAlone(BackendUnavailable):
    """The backend was not asked, because others wait for it in vain."""


class Bulkhead:
    """Lets so many threads at a time wait for a backend.

    Who comes beyond them waits for a place, but not behind somebody who has waited for ``patience_ms`` already: then he
    is refused at once. A backend of which a call failed after ``SLOW_MS`` or more, and no other ended meanwhile, hangs:
    all are refused then, but for one at a time who tries it when the circuit lets him.
    """

    def __init__(self, role: str, limit: int, patience_ms: int, timer: Clock = monotonic_ms) -> None:
        self._role, self._limit, self._patience_ms, self._timer = role, limit, patience_ms, timer
        self._circuit = CircuitBreaker(timer, PAUSE_MAX_MS)
        self._lock = threading.Lock()
        self._a_place_is_free = threading.Condition(self._lock)
        self._waiting = 0
        self._inside: dict[object, int] = {}
        """Since when each is, the first comer first."""
        self._successes = 0
        self._hangs_since: int | None = None

    def call(self, backend: Backend, method: str, *arguments: Any, **named: Any) -> Any:
        """What the backend's method answers; raises BackendLeftAlone without asking."""
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
        """The moment of it."""
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
                    self._a_place_is_free.wait(left_ms / 1000)
                finally:
                    self._waiting -= 1

    def _leave(self, me: object, began: int, successes: int, *, hung: bool) -> None:
        """``successes``: how many there had been before."""
        with self._lock:
            del self._inside[me]
            if not hung:
                self._successes += 1
                if self._hangs_since is not None:
                    self._hangs_no_longer()
            elif self._successes == successes:
                self._hangs(began)
            if self._waiting:
                self._a_place_is_free.notify()

    def _hangs_no_longer(self) -> None:
        self._hangs_since = None
        self._circuit.close()
        log.info("backend hangs no longer", role=self._role)

    def _hangs(self, began: int) -> None:
        """Of those who were inside when it was found to hang, each finds it too: the first one's word is enough."""
        if self._hangs_since is None:
            log.warning("backend hangs", role=self._role)
        elif began <= self._hangs_since:
            return
        self._hangs_since = self._timer()
        self._circuit.open()


def guarded(contract: type[AnyBackend], backend: AnyBackend, guard: Bulkhead) -> AnyBackend:
    """The backend, each method of the contract under the guard."""
    return cast(AnyBackend, _BehindBulkhead(backend, contract.__abstractmethods__ - UNGUARDED, guard))


class _BehindBulkhead:
    def __init__(self, backend: Backend, methods: frozenset[str], guard: Bulkhead) -> None:
        self._backend = backend
        for method in methods:
            setattr(self, method, partial(guard.call, backend, method))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
