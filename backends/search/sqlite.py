"""Search in an SQLite file, shared by the processes of one machine."""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any, Self, cast

from backends.sqlite import SqliteFile, fetch
from coupon.domain.model import Coupon
from coupon.domain.serialization import Document, document
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.search import Query, Rebuild, Search
from coupon.ports.url import Url

PRAGMAS = """
PRAGMA cache_size = -4000;
PRAGMA wal_autocheckpoint = 4000;
"""
PRESENT, NEXT = "documents", "documents_next"
FIELDS = tuple(Document.__annotations__)
_HOLDERS = ("userId", "couponCode", *(field for field in FIELDS if field not in ("userId", "couponCode")))
TABLE = """
CREATE TABLE {table} (
    couponCode TEXT PRIMARY KEY,
    userId TEXT,
    issued INTEGER NOT NULL,
    used INTEGER NOT NULL,
    validFrom TEXT NOT NULL,
    expireAt TEXT NOT NULL,
    issuedAt TEXT,
    usedAt TEXT,
    createdAt TEXT NOT NULL,
    modifiedAt TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT
"""
# Both bring rows in the order of codes, so a page costs what it holds, however long the list is.
# The one of holders has the whole row: a user's coupons lie all over the table, a page each.
HOLDERS = f"""
CREATE INDEX holders_{{generation}} ON {{table}} ({", ".join(_HOLDERS)}) WHERE userId IS NOT NULL
"""
# In a file of an earlier version the one of days has the used coupons too: they are read, and left out.
DAYS = "CREATE INDEX days_{generation} ON {table} (expireAt, couponCode) WHERE used = 0"
PUT = f"""
INSERT INTO {{table}} VALUES ({", ".join("?" * len(FIELDS))})
ON CONFLICT (couponCode) DO UPDATE SET {", ".join(f"{field} = excluded.{field}" for field in FIELDS[1:])}
WHERE excluded.version > version
"""  # noqa: S608 - made of names in this file
# A command never changes a coupon's days, and few change whether it is used: as long as both are the same, their index
# need not be written.
CHANGE = """
UPDATE {table} SET userId = ?, issued = ?, issuedAt = ?, usedAt = ?, modifiedAt = ?, version = ?{used}
WHERE couponCode = ? AND version < ? AND validFrom = ? AND expireAt = ? AND createdAt = ?{unused}
"""
_STAYS_UNUSED, _IS_USED = {"used": "", "unused": " AND used = 0"}, {"used": ", used = 1", "unused": ""}
_CHANGES = itemgetter(
    *("userId", "issued", "issuedAt", "usedAt", "modifiedAt", "version"),
    *("couponCode", "version", "validFrom", "expireAt", "createdAt"),
)
"""The parameters of ``CHANGE``."""
FIND = "SELECT * FROM documents WHERE {conditions} couponCode > :after ORDER BY couponCode LIMIT :limit"
# The plus sign keeps SQLite from the index of days, which would read everybody's coupons of that day.
CONDITIONS = {
    (False, False): "",
    (False, True): "used = 0 AND expireAt = :unused_until AND",
    (True, False): "userId = :user_id AND",
    (True, True): "userId = :user_id AND +used = 0 AND +expireAt = :unused_until AND",
}


class SqliteSearch(Search):
    """A table a generation. Its indices bear a name of their own in each, because a table can be renamed when the next
    generation takes the place of the present one, and an index cannot."""

    def __init__(self, path: str, timeout_s: float = 5.0, synchronous: str = "normal") -> None:
        self._path = path
        self._file = SqliteFile(path, PRAGMAS, timeout_s, synchronous)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=5.0, synchronous="normal"))

    def ping(self) -> None:
        with self._reading() as connection:
            connection.execute("SELECT 1 FROM documents LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def create(self) -> None:
        with self._file.write() as connection:
            if PRESENT not in _tables(connection):
                _make(connection, PRESENT)

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        documents = [document(coupon) for coupon in coupons]
        with self._file.write() as connection:
            tables = _tables(connection)
            if PRESENT not in tables:
                raise self._missing()
            for table in tables:
                _change(connection, table, documents)

    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        conditions = CONDITIONS[query.user_id is not None, query.unused_until is not None]
        with self._reading() as connection:
            rows = fetch(
                connection, FIND.format(conditions=conditions), query._asdict() | {"limit": limit, "after": after}
            )
        return [_document(row) for row in rows]

    @contextmanager
    def rebuild(self) -> Iterator[Rebuild]:
        with self._file.write() as connection:
            connection.execute("DROP TABLE IF EXISTS documents_next")
            generation = _make(connection, NEXT)
        try:
            yield _SqliteRebuild(self._file, generation)
            with self._file.write() as connection:
                _check_is_next(connection, generation)
                connection.execute("DROP TABLE IF EXISTS documents")
                connection.execute("ALTER TABLE documents_next RENAME TO documents")
        except BaseException:
            with suppress(BackendError), self._file.write() as connection:
                _check_is_next(connection, generation)
                connection.execute("DROP TABLE documents_next")
            raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._file.read() as connection:
            try:
                yield connection
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    raise self._missing() from error
                raise

    def _missing(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self._path} holds no index: run `coupon init`")


class _SqliteRebuild(Rebuild):
    def __init__(self, file: SqliteFile, generation: str) -> None:
        self._file, self._generation = file, generation

    def add_many(self, coupons: Sequence[Coupon]) -> None:
        documents = [document(coupon) for coupon in coupons]
        with self._file.write() as connection:
            _check_is_next(connection, self._generation)
            _put(connection, NEXT, documents)


def _tables(connection: sqlite3.Connection) -> set[str]:
    """The generations that there are."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _make(connection: sqlite3.Connection, table: str) -> str:
    """The name of the new generation in the table."""
    generation = secrets.token_hex(8)
    for statement in (TABLE, HOLDERS, DAYS):
        connection.execute(statement.format(table=table, generation=generation))
    return generation


def _check_is_next(connection: sqlite3.Connection, generation: str) -> None:
    index = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = ? AND tbl_name = ?", (f"holders_{generation}", NEXT)
    )
    if index.fetchone() is None:
        raise BackendRejected("another rebuild was begun, which discarded this one")


def _change(connection: sqlite3.Connection, table: str, documents: Sequence[Document]) -> None:
    """First as what they nearly always are: new coupons, and commands on known ones."""
    new = [doc for doc in documents if doc["version"] == 1]
    for used, change in ((False, _STAYS_UNUSED), (True, _IS_USED)):
        changed = [doc for doc in documents if doc["version"] != 1 and doc["used"] is used]
        statement = CHANGE.format(table=table, **change)
        if connection.executemany(statement, map(_CHANGES, changed)).rowcount != len(changed):
            new += changed
    _put(connection, table, new)


def _put(connection: sqlite3.Connection, table: str, documents: Iterable[Document]) -> None:
    connection.executemany(PUT.format(table=table), (tuple(doc.values()) for doc in documents))


def _document(row: tuple[Any, ...]) -> Document:
    fields = dict(zip(FIELDS, row, strict=True))
    fields["issued"], fields["used"] = bool(fields["issued"]), bool(fields["used"])
    return cast(Document, fields)
