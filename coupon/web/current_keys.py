"""The API keys that this process knows. It reads them again and again, so that a change counts within a second."""

import threading
from concurrent.futures import Future, wait
from typing import cast

import structlog

from coupon.domain.api_keys import ApiKeys
from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendError, BackendLeftAlone, BackendUnavailable
from coupon.ports.store import Store
from coupon.runtime.api_keys import read_api_keys
from coupon.runtime.own_thread import OwnThread

REFRESH_MS, STALE_MS = 400, 900
"""Keys of the first age are read again. With the second age a request waits for that."""
PATIENCE_S, PATIENCE_OF_ONE_S, FIRST_PATIENCE_S = 0.25, 1.0, 2.0
"""How long a request waits: for newer keys, the same of the request that has them read, and for the first ones.

So the first request to an idle process knows what was revoked meanwhile, and a store that hangs holds one thread."""
log = structlog.get_logger("coupon.web")


class CurrentKeys:
    """The keys of the store. While the store is away, the keys as they were last read. Thread-safe.

    A thread of its own reads it, so that a store that hangs holds up no request whose key is known."""

    def __init__(self, store: Store, timer: Clock = monotonic_ms) -> None:
        self._store, self._timer = store, timer
        self._keys: ApiKeys | None = None
        self._tried_at = timer() - STALE_MS
        self._is_away = False
        self._thread, self._starting = OwnThread("api-keys"), threading.Lock()
        self._reading: Future[None] | None = None

    def get(self) -> ApiKeys:
        """Raises BackendUnavailable when the store did not answer since the start of the process."""
        age_ms = self._timer() - self._tried_at
        if age_ms >= REFRESH_MS:
            self._refresh(age_ms)
        if self._keys is None:
            raise BackendUnavailable("the API keys have not been read yet")
        return self._keys

    def _refresh(self, age_ms: int) -> None:
        """Have the keys read, and wait for that where it matters."""
        try:
            reading, is_first = self._begin()
        except BackendUnavailable:  # the process ends
            return
        if self._keys is None:
            wait([reading], FIRST_PATIENCE_S)
        elif age_ms >= STALE_MS and (is_first or not self._is_away):
            wait([reading], PATIENCE_OF_ONE_S if is_first else PATIENCE_S)

    def _begin(self) -> "tuple[Future[None], bool]":
        """The reading in progress, and whether it was begun now. Raises BackendUnavailable."""
        with self._starting:
            is_first = self._reading is None or self._reading.done()
            if is_first:
                self._reading = self._thread.submit(self._read)
            return cast("Future[None]", self._reading), is_first

    def _read(self) -> None:
        try:
            found = read_api_keys(self._store)
            self._is_away = False
            if found.is_recorded or not self._keys:
                self._keys = found
            else:  # another store, or a backup of before the first key: nobody is let in without one
                log.critical("API keys are gone", remedy="coupon keys create")
        except BackendError as error:
            if not (self._is_away or isinstance(error, BackendLeftAlone)):
                log.warning("API keys unavailable", error=str(error))
            self._is_away = True
        finally:
            self._tried_at = self._timer()
