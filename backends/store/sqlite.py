"""The store in an SQLite file, shared by the processes of one machine."""

import json
from collections.abc import Iterable, Sequence
from sqlite3 import Connection
from typing import Any, Self

from backends.sqlite import SqliteFile, whole
from backends.store import rows
from backends.store.cursor import checked, checked_key, cursor_of, cursor_of_key
from backends.store.sqlite_migrations import MIGRATIONS
from coupon.domain.errors import Malformed
from coupon.domain.model import Coupon
from coupon.domain.serialization import decode_coupon, encode_coupon
from coupon.ports.store import Group, Page, Record, RecordPage, Store, check_groups, check_kind
from coupon.ports.url import Url

# Codes are random, so a batch touches as many pages of an index as it has rows. The table is in the order of creation,
# and only its index is in the order of codes. So a million coupons need 2 MB of page cache a thread. A table WITHOUT
# ROWID needs 30, and creates 15,000 coupons a second instead of 30,000. With rarer checkpoints, a page that several
# batches changed is written once. Coupons have a table of their own: a kind would make that index a quarter larger.
SCHEMA = """
PRAGMA cache_size = -4000;
PRAGMA wal_autocheckpoint = 4000;
CREATE TABLE IF NOT EXISTS coupons (
    code TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)
) STRICT;
"""
CREATE = "INSERT INTO coupons VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
# The code is not set: SQLite would rewrite its index.
CHANGE = "UPDATE coupons SET revision = ?, body = ? WHERE code = ? AND revision = ?"
GET = "SELECT * FROM coupons WHERE code = ?"
GET_MANY = "SELECT coupons.* FROM json_each(?) AS wanted CROSS JOIN coupons ON code = wanted.value"
SCAN = "SELECT * FROM coupons WHERE code > CAST(? AS TEXT) ORDER BY code LIMIT ?"
CREATE_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
CHANGE_RECORD = "UPDATE records SET revision = ?, body = ? WHERE kind = ? AND key = ? AND revision = ?"
GET_RECORDS = """
SELECT records.* FROM json_each(?) AS wanted CROSS JOIN records ON kind = ? AND records.key = wanted.value
"""
SCAN_RECORDS = "SELECT * FROM records WHERE kind = ? AND key > CAST(? AS TEXT) ORDER BY key LIMIT ?"


class SqliteStore(Store):
    """One row for each coupon and each record. SQLite never looks into a body."""

    def __init__(self, path: str, timeout_s: float = 5.0, synchronous: str = "normal") -> None:
        self._file = SqliteFile(path, SCHEMA, timeout_s, synchronous, MIGRATIONS)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=5.0, synchronous="normal"))

    def ping(self) -> None:
        with self._file.read() as connection:
            connection.execute("SELECT 1 FROM coupons LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def create(self) -> None:
        self._file.migrate()
        self.ping()

    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        wanted = list(codes)
        if len(wanted) == 1:
            fetched = self._file.select(GET, wanted)
        else:
            fetched = self._file.select(GET_MANY, (json.dumps(wanted),))
        return rows.read(fetched, _coupon, _name).by_code()

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        """All at once, when no condition fails; else one by one, to see which one fails."""
        new = [_row(coupon) for coupon in coupons if coupon.revision == 1]
        changed = [_change(coupon) for coupon in coupons if coupon.revision != 1]

        def save_all(connection: Connection) -> bool:
            created = connection.executemany(CREATE, new).rowcount
            return created + connection.executemany(CHANGE, changed).rowcount == len(coupons)

        def save(connection: Connection) -> set[str]:
            if whole(connection, lambda: save_all(connection)):
                return set()
            failed = {row[0] for row in new if connection.execute(CREATE, row).rowcount != 1}
            return failed | {row[-2] for row in changed if connection.execute(CHANGE, row).rowcount != 1}

        return self._file.write_together(save)

    def scan(self, limit: int, cursor: str | None = None) -> Page:
        behind = b"" if cursor is None else checked(cursor)
        fetched = self._file.select(SCAN, (behind, limit))
        coupons, unreadable = rows.read(fetched, _coupon, _name)
        return Page(coupons, cursor_of(_bytes(fetched[-1][0])) if len(fetched) == limit else None, unreadable)

    def get_records(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        check_kind(kind)
        listed = json.dumps(list(keys))
        fetched = self._file.select(GET_RECORDS, (listed, kind))
        return rows.read_records(fetched, _record, _key).by_key()

    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        check_groups(groups)
        with self._file.write() as connection:

            def save(group: Group) -> bool:
                return whole(connection, lambda: all(_save(connection, member) for member in group))

            return {index for index, group in enumerate(groups) if not save(group)}

    def scan_records(self, kind: str, limit: int, cursor: str | None = None) -> RecordPage:
        check_kind(kind)
        behind = b"" if cursor is None else checked_key(cursor)
        fetched = self._file.select(SCAN_RECORDS, (kind, behind, limit))
        records, unreadable = rows.read_records(fetched, _record, _key)
        return RecordPage(records, cursor_of_key(_bytes(fetched[-1][1])) if len(fetched) == limit else None, unreadable)


def _save(connection: Connection, member: Coupon | Record) -> bool:
    if isinstance(member, Coupon):
        is_new = member.revision == 1
        done = connection.execute(CREATE, _row(member)) if is_new else connection.execute(CHANGE, _change(member))
    elif member.revision == 1:
        done = connection.execute(CREATE_RECORD, member)
    else:
        kind, key, revision, body = member
        done = connection.execute(CHANGE_RECORD, (revision, body, kind, key, revision - 1))
    return done.rowcount == 1


def _bytes(code: str | bytes) -> bytes:
    return code.encode() if isinstance(code, str) else code


def _name(row: tuple[Any, ...]) -> str:
    """The code of a row, which may be no valid one."""
    return _bytes(row[0]).decode(errors="backslashreplace")


def _key(row: tuple[Any, ...]) -> str:
    return _bytes(row[1]).decode(errors="backslashreplace")


def _row(coupon: Coupon) -> tuple[str, int, str]:
    return coupon.code, coupon.revision, encode_coupon(coupon).decode()


def _change(coupon: Coupon) -> tuple[int, str, str, int]:
    return coupon.revision, encode_coupon(coupon).decode(), coupon.code, coupon.revision - 1


def _coupon(row: tuple[Any, ...]) -> Coupon:
    code, revision, body = row
    coupon = decode_coupon(body)
    if coupon.code != code or coupon.revision != revision:
        raise Malformed(f"the body is of revision {coupon.revision} of {coupon.code}")
    return coupon


def _record(row: tuple[Any, ...]) -> Record:
    if any(isinstance(part, bytes) for part in row):
        raise ValueError("not UTF-8")
    return Record(*row)
