"""The cache in this process: for unit tests, and for trying things out."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import Any, NamedTuple, Self

from backends.cache.limits import check_entry, check_key
from coupon.domain.errors import BackendUnavailable
from coupon.ports.cache import Cache, Cached
from coupon.ports.url import Url

SWEPT_PER_WRITE = 2


class _Entry(NamedTuple):
    value: bytes
    token: int
    expires_at: float


class MemoryCache(Cache):
    """Each instance is a cache of its own. ``timer`` returns seconds, and is never set."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._tokens = count(1)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(**url.options())

    def ping(self) -> None:
        self._check_open()

    def close(self) -> None:
        self._closed = True
        with self._lock:
            self._entries.clear()

    def get(self, key: str) -> Cached | None:
        check_key(key)
        self._check_open()
        with self._lock:
            entry = self._living(key)
        return None if entry is None else Cached(entry.value, entry.token)

    def add(self, key: str, value: bytes, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        self._check_open()
        with self._lock:
            return None if self._living(key) is not None else self._write(key, value, ttl_s)

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        self._check_open()
        with self._lock:
            return self._write(key, value, ttl_s) if self._is_still(key, token) else None

    def remove(self, key: str, token: Any) -> bool:
        check_key(key)
        self._check_open()
        with self._lock:
            if not self._is_still(key, token):
                return False
            del self._entries[key]
            return True

    def delete_many(self, keys: Iterable[str]) -> None:
        self._check_open()
        for key in keys:
            check_key(key)
            with self._lock:
                self._entries.pop(key, None)

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        check_entry(key, value, ttl_s)
        self._check_open()
        with self._lock:
            self._write(key, value, ttl_s)

    def place(self, key: str) -> str:
        check_key(key)
        return ""

    def evicted(self, key: str) -> int | None:
        check_key(key)
        return None

    def held_keys(self) -> list[str]:
        """Of all entries, also of those that have expired: for tests, which lose some."""
        with self._lock:
            return list(self._entries)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("the memory cache was closed")

    def _living(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires_at > self._timer() else None

    def _is_still(self, key: str, token: Any) -> bool:
        entry = self._living(key)
        return entry is not None and entry.token == token

    def _write(self, key: str, value: bytes, ttl_s: int) -> int:
        now, token = self._timer(), next(self._tokens)
        self._sweep(now)
        self._entries[key] = _Entry(value, token, now + ttl_s)
        return token

    def _sweep(self, now: float) -> None:
        """Check the next few entries in turn, and drop those that have expired. Each write drops faster than it adds,
        and none has to drop many."""
        for key in list(islice(self._entries, SWEPT_PER_WRITE)):
            if self._entries[key].expires_at <= now:
                del self._entries[key]
            else:
                self._entries.move_to_end(key)
