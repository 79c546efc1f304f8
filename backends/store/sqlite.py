"""The store in an SQLite file, shared by the processes of one machine."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Self

from backends.sqlite import SqliteFile, fetch
from backends.store import rows
from backends.store.cursor import checked, given
from coupon.domain import serialization as wire
from coupon.domain.model import Coupon
from coupon.ports.store import Page, Store
from coupon.ports.url import Url

# Codes are random, so a batch touches as many pages of an index as it has rows. The table is in the order of creation
# and only its index is in the order of codes: at a million coupons half of a page cache of 4 MB a thread holds what a
# table WITHOUT ROWID needs 30 for (30,000 creations a second instead of 15,000). Rarer checkpoints write a page once
# that several batches changed.
SCHEMA = """
PRAGMA cache_size = -4000;
PRAGMA wal_autocheckpoint = 4000;
CREATE TABLE IF NOT EXISTS coupons (
    code TEXT PRIMARY KEY,
    valid_from TEXT NOT NULL,
    expire_at TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    user_id TEXT,
    issued_at INTEGER,
    used_at INTEGER,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    history TEXT NOT NULL,
    rejections TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
ADDED = (("coupons", "settled", "INTEGER NOT NULL DEFAULT 0"),)
CREATE = "INSERT INTO coupons VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
# The code is not set: SQLite would write its index anew.
CHANGE = """
UPDATE coupons SET valid_from = ?, expire_at = ?, created_at = ?, modified_at = ?, batch = ?, user_id = ?,
    issued_at = ?, used_at = ?, version = ?, revision = ?, history = ?, rejections = ?, settled = ?
WHERE code = ? AND revision = ?
"""
GET = "SELECT coupons.* FROM json_each(?) AS wanted CROSS JOIN coupons ON code = wanted.value"
NONE = "[]"
"""Rejections of nearly every coupon, which is not worth a decoder."""
SCAN = "SELECT * FROM coupons WHERE code > CAST(? AS TEXT) ORDER BY code LIMIT ?"


class SqliteStore(Store):
    """One row a coupon, its columns in the order of ``Coupon``'s fields."""

    def __init__(self, path: str, timeout_s: float = 5.0, synchronous: str = "normal") -> None:
        self._file = SqliteFile(path, SCHEMA, timeout_s, synchronous, ADDED)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=5.0, synchronous="normal"))

    def ping(self) -> None:
        with self._file.read() as connection:
            connection.execute("SELECT 1 FROM coupons LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def create(self) -> None:
        self.ping()

    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        wanted = json.dumps(list(codes))
        with self._file.read() as connection:
            found = fetch(connection, GET, (wanted,))
        return rows.read(found, _coupon, _name).by_code()

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        """All at once, as long as no condition fails; else one by one, to see which."""
        new = [_row(coupon) for coupon in coupons if coupon.revision == 1]
        changed = [_change(coupon) for coupon in coupons if coupon.revision != 1]
        with self._file.write() as connection:
            created = connection.executemany(CREATE, new).rowcount
            if created + connection.executemany(CHANGE, changed).rowcount == len(coupons):
                return set()
            connection.rollback()
        with self._file.write() as connection:
            failed = {row[0] for row in new if connection.execute(CREATE, row).rowcount != 1}
            return failed | {row[-2] for row in changed if connection.execute(CHANGE, row).rowcount != 1}

    def scan(self, limit: int, cursor: str | None = None) -> Page:
        behind = b"" if cursor is None else checked(cursor)
        with self._file.read() as connection:
            found = fetch(connection, SCAN, (behind, limit))
        coupons, unreadable = rows.read(found, _coupon, _name)
        return Page(coupons, given(_bytes(found[-1][0])) if len(found) == limit else None, unreadable)


def _bytes(code: str | bytes) -> bytes:
    return code.encode() if isinstance(code, str) else code


def _name(row: tuple[Any, ...]) -> str:
    """What a row goes by that may be no coupon's."""
    return _bytes(row[0]).decode(errors="backslashreplace")


def _row(coupon: Coupon) -> tuple[Any, ...]:
    return (
        *coupon[:-3],
        wire.encode_history(coupon.history).decode(),
        wire.encode_rejections(coupon.rejections).decode() if coupon.rejections else NONE,
        coupon.settled,
    )


def _change(coupon: Coupon) -> tuple[Any, ...]:
    return *_row(coupon)[1:], coupon.code, coupon.revision - 1


def _coupon(row: tuple[Any, ...]) -> Coupon:
    *plain, history, rejections, settled = row
    rejected = () if rejections == NONE else wire.decode_rejections(rejections)
    coupon = wire.checked(Coupon._make((*plain, wire.decode_history(history), rejected, settled)))
    return coupon if settled else coupon._replace(settled=coupon.version)  # before coupons had numbers
