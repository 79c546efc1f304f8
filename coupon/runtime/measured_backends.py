"""Backends whose calls are counted and timed: made once, where a process is wired, so that no caller has to measure."""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from coupon.domain.errors import BackendError, BackendUnavailable
from coupon.ports.backend import Backend
from coupon.ports.cache import Cache, Cached
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.runtime.cache_entries import cache_key
from coupon.runtime.metrics import BACKEND_FAILURES, BACKEND_S, CACHE_LOOKUPS
from coupon.runtime.wiring import Backends

NOT_TIMED = {"from_url", "ping", "close", "place", "consumer", "browse", "rebuild"}
"""What asks no server, or goes on after the call has returned; a ping is no work."""
COUPON = cache_key("")
"""How the keys of coupons begin."""
AnyBackend = TypeVar("AnyBackend", bound=Backend)


def measure_backends(backends: Backends) -> Backends:
    """The same backends, measured. They are opened and closed by themselves."""
    return Backends(
        cache=measured(Cache, backends.cache, _MeasuredCache),  # type: ignore[type-abstract]
        queue=measured(Queue, backends.queue, _MeasuredQueue),  # type: ignore[type-abstract]
        store=measured(Store, backends.store),  # type: ignore[type-abstract]
        search=measured(Search, backends.search),  # type: ignore[type-abstract]
        urls=backends.urls,
    )


class Measured:
    """In place of a backend: each public method of its contract is timed, and its failures are counted."""

    def __init__(self, role: str, backend: Any, names: Iterable[str]) -> None:
        self._backend = backend
        for name in names:
            setattr(self, name, _timed(backend, role, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class _MeasuredCache(Measured):
    """Counts the coupons that are found, and those that are not."""

    def __init__(self, role: str, backend: Cache, names: Iterable[str]) -> None:
        super().__init__(role, backend, set(names) - {"get", "get_many"})
        self._get, self._get_many = _timed(backend, role, "get"), _timed(backend, role, "get_many")

    def get(self, key: str) -> Cached | None:
        found: Cached | None = self._get(key)
        if key.startswith(COUPON):
            CACHE_LOOKUPS.add("miss" if found is None else "hit")
        return found

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        """Of keys of one kind."""
        keys = list(keys)
        found: dict[str, Cached] = self._get_many(keys)
        if keys and keys[0].startswith(COUPON):
            CACHE_LOOKUPS.add("hit", by=len(found))
            CACHE_LOOKUPS.add("miss", by=len(keys) - len(found))
        return found


class _MeasuredQueue(Measured):
    """Its consumers' commits are calls, too. Their polls mostly wait for a message."""

    def consumer(self, *arguments: Any) -> Any:
        return Measured("queue", self._backend.consumer(*arguments), ["commit"])


def measured(contract: type[AnyBackend], backend: AnyBackend, wrapper: type[Measured] = Measured) -> AnyBackend:
    return cast(AnyBackend, wrapper(contract.__name__.lower(), backend, _methods(contract)))


def _methods(contract: type[Any]) -> list[str]:
    names = (name for name in dir(contract) if not name.startswith("_") and name not in NOT_TIMED)
    return [name for name in names if callable(getattr(contract, name))]


def _timed(backend: Any, role: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return getattr(backend, name)(*arguments, **named)
        except BackendError as error:
            kind = "unavailable" if isinstance(error, BackendUnavailable) else "rejected"
            BACKEND_FAILURES.add(role, name, kind)
            raise
        finally:
            BACKEND_S.observe(time.perf_counter() - began, role, name)

    return call
