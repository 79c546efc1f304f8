"""The cache in an SQLite file, shared by the processes of one machine."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from backends.cache.limits import check_entry, check_key
from backends.sqlite import SqliteFile
from coupon.ports.cache import Cache, Cached
from coupon.ports.url import Url

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    token INTEGER NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_at);
"""
GET = "SELECT value, token FROM entries WHERE key = ? AND expires_at > ?"
ADD = """
INSERT INTO entries (key, value, token, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, token = excluded.token, expires_at = excluded.expires_at
WHERE entries.expires_at <= ?
"""
REPLACE = "UPDATE entries SET value = ?, token = ?, expires_at = ? WHERE key = ? AND token = ? AND expires_at > ?"
REMOVE = "DELETE FROM entries WHERE key = ? AND token = ? AND expires_at > ?"
DELETE = "DELETE FROM entries WHERE key = ?"
PUT = "INSERT OR REPLACE INTO entries (key, value, token, expires_at) VALUES (?, ?, ?, ?)"
PRUNE = "DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
PRUNED_PER_WRITE = 10
DELETED_AT_ONCE = 500


class SqliteCache(Cache):
    """One row an entry. Each write that may add a row deletes some that have expired: the file forgets faster than it
    grows, and no write pays for many."""

    def __init__(
        self,
        path: str,
        timeout_s: float = 1.0,
        synchronous: str = "normal",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = SqliteFile(path, SCHEMA, timeout_s, synchronous)
        self._clock = clock

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=1.0, synchronous="normal"))

    def ping(self) -> None:
        with self._file.read() as connection:
            connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def get(self, key: str) -> Cached | None:
        check_key(key)
        with self._file.read() as connection:
            row = connection.execute(GET, (key, self._clock())).fetchone()
        return None if row is None else Cached(*row)

    def add(self, key: str, value: bytes, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        token = _token()
        with self._file.write() as connection:
            now = self._clock()
            connection.execute(PRUNE, (now, PRUNED_PER_WRITE))
            row = (key, value, token, now + ttl_s, now)
            return token if connection.execute(ADD, row).rowcount == 1 else None

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        new = _token()
        with self._file.write() as connection:
            now = self._clock()
            row = (value, new, now + ttl_s, key, token, now)
            return new if connection.execute(REPLACE, row).rowcount == 1 else None

    def remove(self, key: str, token: Any) -> bool:
        check_key(key)
        with self._file.write() as connection:
            return connection.execute(REMOVE, (key, token, self._clock())).rowcount == 1

    def delete_many(self, keys: Iterable[str]) -> None:
        names = list(keys)
        for key in names:
            check_key(key)
        for first in range(0, len(names), DELETED_AT_ONCE):
            with self._file.write() as connection:
                connection.executemany(DELETE, [(key,) for key in names[first : first + DELETED_AT_ONCE]])

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        check_entry(key, value, ttl_s)
        with self._file.write() as connection:
            now = self._clock()
            connection.execute(PRUNE, (now, PRUNED_PER_WRITE))
            connection.execute(PUT, (key, value, _token(), now + ttl_s))

    def place(self, key: str) -> str:
        check_key(key)
        return ""

    def evicted(self, key: str) -> int | None:
        check_key(key)
        return None


def _token() -> int:
    """Random: a counter would begin anew with a new file, and after a power loss."""
    return secrets.randbits(63)
