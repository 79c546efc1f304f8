"""The cache in an SQLite file, shared by the processes of one machine."""

import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Self

from backends.cache.limits import check_entry, check_key
from backends.sqlite import SqliteFile
from coupon.ports.cache import Cache, Cached
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
LIVES = "boot = :boot AND written_at <= :now AND expires_at > :now"
GET = f"SELECT value, token FROM living WHERE key = :key AND {LIVES}"  # noqa: S608 - of constants
ROW = "(key, value, token, boot, written_at, expires_at) VALUES (:key, :value, :token, :boot, :now, :now + :ttl_s)"
NEW = "value = :value, token = :token, boot = :boot, written_at = :now, expires_at = :now + :ttl_s"
ADD = f"INSERT INTO living {ROW} ON CONFLICT (key) DO UPDATE SET {NEW} WHERE NOT ({LIVES})"
REPLACE = f"UPDATE living SET {NEW} WHERE key = :key AND token = :old AND {LIVES}"  # noqa: S608 - of constants
REMOVE = f"DELETE FROM living WHERE key = :key AND token = :old AND {LIVES}"  # noqa: S608 - of constants
DELETE = "DELETE FROM living WHERE key = ?"
PUT = f"INSERT OR REPLACE INTO living {ROW}"
PRUNE = """
DELETE FROM living WHERE key IN (
    SELECT key FROM living WHERE boot = :boot AND expires_at <= :now OR boot < :boot OR boot > :boot LIMIT :pruned
)"""
PRUNED_PER_WRITE = 10
DELETED_AT_ONCE = 500


class SqliteCache(Cache):
    """One row for each entry. Each write that may add a row deletes some expired ones: more than it adds, but never
    many.

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
        with self._file.read() as connection:
            row = connection.execute(GET, self._now() | {"key": key}).fetchone()
        return None if row is None else Cached(*row)

    def add(self, key: str, value: bytes, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        token = _token()
        return token if self._insert(ADD, {"key": key, "value": value, "token": token, "ttl_s": ttl_s}) else None

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> int | None:
        check_entry(key, value, ttl_s)
        new = _token()
        entry: dict[str, Any] = {"key": key, "value": value, "token": new, "ttl_s": ttl_s, "old": token}
        return new if self._file.write_together(lambda db: db.execute(REPLACE, self._now() | entry).rowcount) else None

    def remove(self, key: str, token: Any) -> bool:
        check_key(key)
        entry = {"key": key, "old": token}
        return bool(self._file.write_together(lambda db: db.execute(REMOVE, self._now() | entry).rowcount))

    def delete_many(self, keys: Iterable[str]) -> None:
        names = list(keys)
        for key in names:
            check_key(key)
        for first in range(0, len(names), DELETED_AT_ONCE):
            with self._file.write() as connection:
                connection.executemany(DELETE, [(key,) for key in names[first : first + DELETED_AT_ONCE]])

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        check_entry(key, value, ttl_s)
        self._insert(PUT, {"key": key, "value": value, "token": _token(), "ttl_s": ttl_s})

    def place(self, key: str) -> str:
        check_key(key)
        return ""

    def evicted(self, key: str) -> int | None:
        check_key(key)
        return None

    def _insert(self, statement: str, entry: dict[str, Any]) -> bool:
        """Whether a row was written."""

        def insert(connection: Connection) -> bool:
            now = self._now()
            connection.execute(PRUNE, now | {"pruned": PRUNED_PER_WRITE})
            return connection.execute(statement, now | entry).rowcount == 1

        return self._file.write_together(insert)

    def _now(self) -> dict[str, Any]:
        """The time and the boot, as parameters of the statements."""
        return {"boot": self._boot, "now": self._timer()}


def _token() -> int:
    """Random: a counter would repeat itself with a new file, and after a power loss."""
    return secrets.randbits(63)


def _this_boot() -> str:
    """The name of this boot, which Linux has; empty elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
