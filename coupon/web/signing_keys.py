"""The public keys of who signs users' tokens: a JWK set (RFC 7517) in a file or at a URL, read again as it rotates."""

import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendUnavailable

if TYPE_CHECKING:
    from jwt import PyJWK

FRESH_MS = 300_000
"""A set that is older is read again, so that a key that was withdrawn is refused within five minutes."""
PAUSE_MS = 10_000
"""The shortest time between two readings: anybody can send a token with the name of an unknown key."""
TIMEOUT_S, BYTES_MAX = 2.0, 1_000_000
log = structlog.get_logger("coupon.web")


class SigningKeys:
    """The keys by their names. While the source is away, the keys as they were last read. Thread-safe."""

    def __init__(self, source: str, timer: Clock = monotonic_ms) -> None:
        self._source, self._timer = source, timer
        self._keys: dict[str | None, PyJWK] | None = None
        self._read_at = timer() - FRESH_MS
        self._tried_at = timer() - PAUSE_MS
        self._reading = threading.Lock()

    def get(self, name: str | None) -> "PyJWK | None":
        """The key of that name; None when there is none. A token without a name is for a set of one key. Raises
        BackendUnavailable when the set could not be read yet."""
        now = self._timer()
        is_due = self._keys is None or name not in self._keys or now - self._read_at >= FRESH_MS
        if is_due and self._reading.acquire(blocking=self._keys is None):
            try:
                if self._timer() - self._tried_at >= PAUSE_MS:
                    self._read()
            finally:
                self._reading.release()
        if self._keys is None:
            raise BackendUnavailable("the keys of COUPON_JWT_JWKS have not been read yet")
        return self._keys.get(name)

    def _read(self) -> None:
        from jwt import PyJWKSet, PyJWTError

        self._tried_at = self._timer()
        try:
            keys = PyJWKSet.from_json(_text(self._source)).keys
        except (OSError, ValueError, PyJWTError) as error:
            log.warning("signing keys unavailable", error=str(error))
            return
        self._keys = {key.key_id: key for key in keys}
        if len(keys) == 1:
            self._keys[None] = keys[0]
        self._read_at = self._timer()


def _text(source: str) -> str:
    """Of the file or URL, up to ``BYTES_MAX``. Raises OSError, ValueError."""
    if "://" not in source:
        return Path(source).read_text()
    with urllib.request.urlopen(source, timeout=TIMEOUT_S) as response:  # noqa: S310 - the settings allow http(s) only
        text: str = response.read(BYTES_MAX + 1).decode()
    if len(text) > BYTES_MAX:
        raise ValueError(f"the JWK set has more than {BYTES_MAX:,} bytes")
    return text
