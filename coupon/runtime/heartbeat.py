"""The worker's heartbeats: a file for a probe on the same machine, a cache entry for ``/readyz`` and other workers.

The file shows that the worker's loop runs, also while it waits for a backend. The cache entry is written only once the
worker could work: a worker that crashes at each start has none.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError
from coupon.ports.cache import Cache
from coupon.ports.queue import Position
from coupon.runtime.worker_registry import (
    STALE_S,
    Sign,
    living,
    new_name,
    package_version,
    positions,
    publish_sign,
    read_sign,
    show,
)

INTERVAL_MS = 2_000
log = structlog.get_logger("coupon.heartbeat")


class Heartbeat:
    """Beats at most every ``INTERVAL_MS``. While the cache is unavailable, only the file is written."""

    def __init__(
        self, cache: Cache, code_deriver: CodeDeriver, path: str, clock: Clock, timer: Clock, topics: Sequence[str]
    ) -> None:
        self._cache, self._code_deriver, self._path, self._clock, self._timer = (
            cache,
            code_deriver,
            Path(path),
            clock,
            timer,
        )
        self._topics = list(topics)
        self._name = new_name()
        self._last: int | None = None
        self.works = False
        """Whether work was possible once. Set it then: the next beat comes at once."""

    def beat(
        self,
        *,
        waiting: int,
        search_away: bool,
        failure: str | None,
        left_alone: Mapping[Position, str],
        delivered: Mapping[Position, int],
    ) -> None:
        """Write a heartbeat with the worker's state, when it is time."""
        now = self._timer()
        if self._last is not None and now - self._last < INTERVAL_MS:
            return
        self._last = now
        sign = Sign(
            host=self._name.split(":")[1],
            pid=os.getpid(),
            version=package_version(),
            topics=self._topics,
            at=self._clock() / 1000,
            works=self.works,
            waiting=waiting,
            search_away=search_away,
            failure=failure and failure[:300],
            left_alone={show(position): reason[:300] for position, reason in left_alone.items()},
            delivered={show(position): offset for position, offset in delivered.items()},
        )
        try:
            self._write(msgspec.json.encode(sign))
        except OSError as error:  # a full disk is no reason to stop
            log.error("heartbeat file not written", error=str(error))
        if self.works:
            try:
                publish_sign(self._cache, self._code_deriver, self._name, sign)
            except BackendError as error:
                log.warning("cache unavailable", error=str(error))

    def count(self) -> None:
        """Work was possible: heartbeats say so from now on."""
        if not self.works:
            self.works, self._last = True, None

    def delivered_to_others(self) -> Mapping[Position, int]:
        """By partition, the offset up to which other workers report deliveries; empty while the cache is
        unavailable."""
        try:
            signs = living(self._cache, self._code_deriver)
        except BackendError:
            return {}
        reached: dict[Position, int] = {}
        for name, sign in signs.items():
            for position, offset in positions(sign.delivered).items() if name != self._name else ():
                reached[position] = max(offset, reached.get(position, 0))
        return reached

    def _write(self, body: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.write_bytes(body)
        draft.replace(self._path)


def is_fresh(path: str) -> bool:
    """Whether the worker of that file has beaten within ``STALE_S``."""
    try:
        return time.time() - Path(path).stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False


def worked_lately(path: str) -> bool:
    """Whether it has, and could work."""
    try:
        sign = read_sign(Path(path).read_bytes())
    except OSError:
        return False
    return is_fresh(path) and sign is not None and sign.works
