"""The public keys of who signs users' tokens: a JWK set (RFC 7517) in a file or at a URL, read again as it rotates."""

import threading
import time
import urllib.request
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendUnavailable
from coupon.runtime.own_thread import OwnThread

if TYPE_CHECKING:
    from jwt import PyJWK

FRESH_MS, AGE_MAX_MS = 300_000, 3_600_000
"""A set of the first age is read again: a key that was withdrawn is refused then. One of the second age is not used."""
PAUSE_MS = 10_000
"""The shortest time between two readings: anybody can send a token with the name of an unknown key."""
PATIENCE_S, TIMEOUT_S, BYTES_MAX = 0.25, 3.0, 1_000_000
"""How long a request waits for a reading, and how long one may take as a whole."""
log = structlog.get_logger("coupon.web")


class SigningKeys:
    """The keys by their names. While the source is away, the keys as they were last read. Thread-safe.

    A thread of its own reads them, so that a source that hangs holds up no request for long."""

    def __init__(self, source: str, timer: Clock = monotonic_ms) -> None:
        self._source, self._timer = source, timer
        self._keys: dict[str | None, PyJWK] | None = None
        self._read_at = timer() - FRESH_MS
        self._tried_at = timer() - PAUSE_MS
        self._thread, self._starting = OwnThread("signing-keys"), threading.Lock()
        self._reading: Future[None] | None = None

    def get(self, name: str | None) -> "PyJWK | None":
        """The key of that name; None when there is none. A token without a name is for a set of one key. Raises
        BackendUnavailable when the set could not be read yet, or for an hour."""
        age_ms = self._timer() - self._read_at
        if (self._keys is None or name not in self._keys or age_ms >= FRESH_MS) and (reading := self._begun()):
            wait([reading], PATIENCE_S)
        if self._keys is None or self._timer() - self._read_at >= AGE_MAX_MS:
            raise BackendUnavailable("the keys of COUPON_JWT_JWKS cannot be read")
        return self._keys.get(name)

    def _begun(self) -> "Future[None] | None":
        """The reading that begins now; None when one is in progress, or the last one was just now."""
        with self._starting:
            is_running = self._reading is not None and not self._reading.done()
            if is_running or self._timer() - self._tried_at < PAUSE_MS:
                return None
            self._tried_at = self._timer()
            try:
                self._reading = self._thread.submit(self._read)
            except BackendUnavailable:  # the process ends
                return None
            return self._reading

    def _read(self) -> None:
        from jwt import PyJWKSet, PyJWTError

        try:
            keys = [key for key in PyJWKSet.from_json(_text(self._source)).keys if key.public_key_use in (None, "sig")]
        except (OSError, ValueError, RecursionError, PyJWTError) as error:
            log.warning("signing keys unavailable", error=str(error))
            return
        found: dict[str | None, PyJWK] = {key.key_id: key for key in keys}
        if len(keys) == 1:
            found[None] = keys[0]
        self._keys, self._read_at = found, self._timer()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The settings name the source, and nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _text(source: str) -> str:
    """Of the file or URL, up to ``BYTES_MAX``, and within ``TIMEOUT_S``. Raises OSError, ValueError."""
    if "://" not in source:
        return Path(source).read_text()
    deadline, parts, size = time.monotonic() + TIMEOUT_S, [], 0
    with urllib.request.build_opener(_NoRedirect).open(source, timeout=TIMEOUT_S) as response:
        while part := response.read1(65_536):
            size += len(part)
            parts.append(part)
            if size > BYTES_MAX or time.monotonic() > deadline:
                raise ValueError(f"the JWK set has more than {BYTES_MAX:,} bytes, or takes more than {TIMEOUT_S:g} s")
    return b"".join(parts).decode()
