"""The cache in an SQLite file, shared by the processes of one machine."""

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Self

from backends.cache.limits import check_entry, check_key, checked_keys
from backends.sqlite import SqliteFile, fetch
from coupon.ports.cache import Cache, Cached, Write, Written
from coupon.ports.url import Url

SCHEMA = """
CREATE TABLE IF NOT EXISTS living (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    token INTEGER NOT NULL,
    boot TEXT NOT NULL,
    written_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS living_by_expiry ON living (boot, expires_at);
DROP TABLE IF EXISTS entries;
"""
"""Times are seconds since the boot of the machine that is named. Version 511aa48 stored ``entries`` with the time of
day, so a clock that was set back made them live for hours. That table is dropped."""
# The parameters: ?1 key, ?2 this boot, ?3 now, ?4 value, ?5 token, ?6 lifetime, ?7 the token of the entry before.
LIVES = "boot = ?2 AND written_at <= ?3 AND expires_at > ?3"
GET = f"SELECT value, token FROM living WHERE key = ?1 AND {LIVES}"  # noqa: S608 - of constants
GET_MANY = f"""
SELECT living.key, living.value, token FROM json_each(?1) AS wanted CROSS JOIN living
ON living.key = wanted.value AND {LIVES}
"""  # noqa: S608 - of constants
ROW = "(key, value, token, boot, written_at, expires_at) VALUES (?1, ?4, ?5, ?2, ?3, ?3 + ?6)"
NEW = "value = ?4, token = ?5, boot = ?2, written_at = ?3, expires_at = ?3 + ?6"
ADD = f"INSERT INTO living {ROW} ON CONFLICT (key) DO UPDATE SET {NEW} WHERE NOT ({LIVES})"
REPLACE = f"UPDATE living SET {NEW} WHERE key = ?1 AND token = ?7 AND {LIVES}"  # noqa: S608 - of constants
REMOVE = f"DELETE FROM living WHERE key = ?1 AND token = ?4 AND {LIVES}"  # noqa: S608 - of constants
DELETE = "DELETE FROM living WHERE key = ?"
PUT = f"INSERT OR REPLACE INTO living {ROW}"
PRUNE = """
DELETE FROM living WHERE key IN (
    SELECT key FROM living WHERE boot = ?1 AND expires_at <= ?2 OR boot < ?1 OR boot > ?1 LIMIT ?3
)"""
PRUNE_EVERY, PRUNED_AT_ONCE = 10, 100
"""A process prunes at the first of so many writes that may add a row."""
DELETED_AT_ONCE = 500


class SqliteCache(Cache):
    """One row for each entry. Writes that may add a row delete expired ones now and then: more than they add, but never
    many at once.

    ``timer`` returns seconds since the boot that ``boot`` names, the same in all processes, and is never set. On a
    machine that does not name its boots, an entry may live for its lifetime once more after a boot.
    """

    def __init__(
        self,
        path: str,
        timeout_s: float = 1.0,
        synchronous: str = "normal",
        timer: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        self._file = SqliteFile(path, SCHEMA, timeout_s, synchronous)
        self._timer, self._boot = timer, _this_boot() if boot is None else boot
        self._until_prune = itertools.cycle(range(PRUNE_EVERY))

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=1.0, synchronous="normal"))

    def ping(self) -> None:
        with self._file.read() as connection:
            connection.execute("SELECT 1 FROM living LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def get(self, key: str) -> Cached | None:
        check_key(key)
        rows = self._file.select(GET, (key, self._boot, self._timer()))
        return Cached(*rows[0]) if rows else None

    def add(self, key: str, value: bytes, ttl_s: int) -> int | None:
        token, add = self._inserting(ADD, key, value, ttl_s)
        return token if self._file.write_together(add) else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        """In one query."""
        names = checked_keys(keys)
        return _by_key(self._file.select(GET_MANY, (json.dumps(names), self._boot, self._timer())))

    def write_many(self, writes: Sequence[Write], others: Iterable[str] = ()) -> Written:
        """In one transaction."""
        asked = checked_keys(others)
        work = [self._writing(write) for write in writes]

        def write_all(connection: Connection) -> Written:
            tokens = [token if write(connection) else None for token, write in work]
            rows = fetch(connection, GET_MANY, (json.dumps(asked), self._boot, self._timer())) if asked else []
            return Written(tokens, _by_key(rows))

        return self._file.write_together(write_all)

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> int | None:
        new, replace = self._replacing(Write(key, value, ttl_s, token))
        return new if self._file.write_together(replace) else None

    def remove(self, key: str, token: Any) -> bool:
        check_key(key)

        def remove(connection: Connection) -> int:
            return connection.execute(REMOVE, (key, self._boot, self._timer(), token)).rowcount

        return bool(self._file.write_together(remove))

    def delete_many(self, keys: Iterable[str]) -> None:
        names = checked_keys(keys)
        for first in range(0, len(names), DELETED_AT_ONCE):
            with self._file.write() as connection:
                connection.executemany(DELETE, [(key,) for key in names[first : first + DELETED_AT_ONCE]])

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        _, put = self._inserting(PUT, key, value, ttl_s)
        self._file.write_together(put)

    def place(self, key: str) -> str:
        check_key(key)
        return ""

    def evicted(self, key: str) -> int | None:
        check_key(key)
        return None

    def _writing(self, write: Write) -> tuple[int, Callable[[Connection], bool]]:
        """The new entry's token, and the work that returns whether it was stored."""
        if write.token is not None:
            return self._replacing(write)
        return self._inserting(ADD, write.key, write.value, write.ttl_s)

    def _replacing(self, write: Write) -> tuple[int, Callable[[Connection], bool]]:
        key, value, ttl_s, old = write
        check_entry(key, value, ttl_s)
        new = _token()

        def replace(connection: Connection) -> bool:
            parameters = (key, self._boot, self._timer(), value, new, ttl_s, old)
            return connection.execute(REPLACE, parameters).rowcount == 1

        return new, replace

    def _inserting(
        self, statement: str, key: str, value: bytes, ttl_s: int
    ) -> tuple[int, Callable[[Connection], bool]]:
        check_entry(key, value, ttl_s)
        token = _token()
        prunes = next(self._until_prune) == 0

        def insert(connection: Connection) -> bool:
            now = self._timer()
            if prunes:
                connection.execute(PRUNE, (self._boot, now, PRUNED_AT_ONCE))
            return connection.execute(statement, (key, self._boot, now, value, token, ttl_s)).rowcount == 1

        return token, insert


def _by_key(rows: list[tuple[Any, ...]]) -> dict[str, Cached]:
    return {key: Cached(value, token) for key, value, token in rows}


def _token() -> int:
    """Random: a counter would repeat itself with a new file, and after a power loss."""
    return secrets.randbits(63)


def _this_boot() -> str:
    """The name of this boot, which Linux has; empty elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
