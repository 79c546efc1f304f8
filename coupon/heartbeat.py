"""The worker's signs of life: a file for a probe on the same machine, a cache entry for ``/readyz``."""

import json
import os
import time
from pathlib import Path
from typing import Any

import structlog

from coupon.clock import Clock
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.wire import dump

KEY = "worker:heartbeat"
INTERVAL_MS = 2_000
STALE_S = 15
"""A worker that gave no sign for so long is taken for dead (or stuck)."""
log = structlog.get_logger("coupon.heartbeat")


class Heartbeat:
    """Beats at most every ``INTERVAL_MS``; a cache that is away is no reason to stop beating into the file."""

    def __init__(self, cache: Cache, path: str, clock: Clock) -> None:
        self._cache, self._path, self._clock = cache, Path(path), clock
        self._last = 0

    def beat(self, **state: Any) -> None:
        """Tell that the worker goes round, and its state."""
        now = self._clock()
        if 0 <= now - self._last < INTERVAL_MS:  # also when the clock was set back
            return
        self._last = now
        body = dump({"at": now / 1000, "pid": os.getpid(), **state})
        try:
            self._write(body)
        except OSError as error:  # a full disk is no reason to stop
            log.error("heartbeat file not written", error=str(error))
        try:
            self._cache.put(KEY, body, STALE_S)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def _write(self, body: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.write_bytes(body)
        draft.replace(self._path)


def last_in_cache(cache: Cache) -> dict[str, Any] | None:
    """The last sign of any worker, None when there was none for ``STALE_S``; raises BackendUnavailable."""
    cached = cache.get(KEY)
    return None if cached is None else dict(json.loads(cached.value))


def is_fresh(path: str) -> bool:
    """True when a worker of this machine gave a sign within ``STALE_S``."""
    try:
        return time.time() - Path(path).stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False
