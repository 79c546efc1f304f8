"""The worker's signs of life: a file for a probe on the same machine, a cache entry for ``/readyz``."""

import json
import os
import time
from pathlib import Path
from typing import Any

import structlog

from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.wire import dump

KEY = "worker:heartbeat"
INTERVAL_S = 2
STALE_S = 15
"""A worker that gave no sign for so long is taken for dead (or stuck)."""
log = structlog.get_logger("coupon.heartbeat")


class Heartbeat:
    """Beats at most every ``INTERVAL_S``; a cache that is away is no reason to stop beating into the file."""

    def __init__(self, cache: Cache, path: str) -> None:
        self._cache, self._path = cache, Path(path)
        self._last = float("-inf")

    def beat(self, **state: Any) -> None:
        """Tell that the worker goes round, and its state."""
        if time.monotonic() - self._last < INTERVAL_S:
            return
        self._last = time.monotonic()
        body = dump({"at": time.time(), "pid": os.getpid(), **state})
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
