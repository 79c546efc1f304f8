"""The keys that sign messages. The first one is made from COUPON_SECRET, the others are in COUPON_KEYRING_FILE.

Each line of the file is a secret. ``COUPON_SECRET`` stands for that secret, also where the file does not name it. The
last one signs, but for one that has the word ``next`` behind it: that waits until all processes have learned of it.

A process reads the file again when it was changed. A file that cannot be read any more changes nothing, and is logged.
"""

import threading
from pathlib import Path
from typing import NamedTuple

import structlog

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.domain.signatures import MessageKey

ROOT = "COUPON_SECRET"
"""The word for the secret of the configuration."""
NEXT = "next"
SECRET_MIN = 16
LOOK_MS = 1_000
"""A process looks at the file at most so often, and whenever it meets a key that it does not know."""
log = structlog.get_logger("coupon.keyring")


class Entry(NamedTuple):
    """A line of the file."""

    secret: str
    word: str = ""


class Keys(NamedTuple):
    """The keys by their ids, the one that signs, and the id of the one that is made from COUPON_SECRET."""

    by_id: dict[str, MessageKey]
    signing: MessageKey
    root: str


class Keyring:
    """The keys of one process. Thread-safe. ``path`` is empty when there is no file."""

    def __init__(self, secret: str, path: str, timer: Clock = monotonic_ms) -> None:
        self._secret, self._path, self._timer = secret, Path(path) if path else None, timer
        self._lock = threading.Lock()
        self._read: tuple[object, Keys] | None = None
        self._looked_at: int | None = None

    @property
    def signing(self) -> MessageKey:
        """The key that signs. Raises BackendUnavailable while the file was never readable."""
        return self._keys().signing

    def find(self, key_id: str) -> MessageKey | None:
        """The key with that id; None when nobody knows it. Raises BackendUnavailable as ``signing`` does."""
        known = self._keys().by_id.get(key_id)
        return known or self._keys(again=True).by_id.get(key_id)

    def _keys(self, *, again: bool = False) -> Keys:
        read, now = self._read, self._timer()
        is_due = self._looked_at is None or now - self._looked_at >= LOOK_MS
        if read is not None and not (is_due or again):
            return read[1]
        with self._lock:
            self._looked_at = now
            return self._refreshed(self._read)

    def _refreshed(self, read: tuple[object, Keys] | None) -> Keys:
        try:
            version = _version(self._path)
            if read is None or read[0] != version:
                read = self._read = version, keys_of(self._secret, read_file(self._path))
        except (OSError, UnicodeDecodeError, ConfigurationError) as error:
            if read is None:
                raise BackendUnavailable(f"COUPON_KEYRING_FILE={str(self._path)!r}: {error}") from error
            log.error("keyring not read", error=str(error))
        return read[1]


def read_file(path: Path | None) -> list[Entry]:
    """The lines of the file; none without a file. Raises OSError, UnicodeDecodeError, ConfigurationError."""
    return [] if path is None else parse(path.read_text())


def parse(text: str) -> list[Entry]:
    """Raises ConfigurationError, which shows no secret."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        entry = Entry(*words) if len(words) < 3 else Entry("")
        if entry.word not in ("", NEXT) or (len(entry.secret) < SECRET_MIN and entry.secret != ROOT):
            raise ConfigurationError(
                f"line {number} is not a secret of at least {SECRET_MIN} characters, with {NEXT!r} or nothing behind it"
            )
        entries.append(entry)
    return entries


def keys_of(secret: str, entries: list[Entry]) -> Keys:
    """Raises ConfigurationError when no key is left that signs."""
    whole = entries if any(entry.secret == ROOT for entry in entries) else [Entry(ROOT), *entries]
    keys = [(MessageKey(secret if entry.secret == ROOT else entry.secret), entry.word) for entry in whole]
    in_use = [key for key, word in keys if not word]
    if not in_use:
        raise ConfigurationError("no key is left that signs")
    return Keys({key.id: key for key, _ in keys}, in_use[-1], MessageKey(secret).id)


def _version(path: Path | None) -> object:
    """What differs once the file was changed."""
    if path is None:
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
