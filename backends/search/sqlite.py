"""Search in an SQLite file, shared by the processes of one machine."""

import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any, Self, cast

from backends.sqlite import SqliteFile, columns, fetch
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import DOCUMENT_FIELDS, Document, DocumentField, Instant, document
from coupon.ports.search import Counts, Query, Rebuild, Search
from coupon.ports.url import Url

PRAGMAS = """
PRAGMA cache_size = -4000;
PRAGMA wal_autocheckpoint = 4000;
"""
PRESENT, NEXT = "documents", "documents_next"
FIELDS = tuple(DOCUMENT_FIELDS)
COLUMNS = ", ".join(FIELDS)
_TYPES = {str: "TEXT", Day: "TEXT", Instant: "TEXT", int: "INTEGER", bool: "INTEGER"}
_FLAGS = [name for name, field in DOCUMENT_FIELDS.items() if field.kind is bool]


def _column(field: DocumentField) -> str:
    """The column's declaration. A later field has its default in the rows of earlier versions."""
    constraint = "" if field.is_optional else " NOT NULL"
    default = f" DEFAULT {_literal(field.default)}" if field.is_later and field.default is not None else ""
    return f"{field.name} {_TYPES[field.kind]}{constraint}{default}"


def _literal(value: Any) -> str:
    return str(int(value)) if isinstance(value, int) else "'{}'".format(str(value).replace("'", "''"))


_KEY, *_OTHERS = (_column(field) for field in DOCUMENT_FIELDS.values())
TABLE = f"CREATE TABLE {{table}} ({_KEY} PRIMARY KEY, {', '.join(_OTHERS)}) STRICT"
# Both have rows in the order of codes, so the cost of a page does not depend on the length of the list.
# The index of holders has the whole row: in the table, each of a user's coupons is on another page.
_HOLDERS = ("userId", "couponCode", *(field for field in FIELDS if field not in ("userId", "couponCode")))
HOLDERS = f"CREATE INDEX holders_{{generation}} ON {{table}} ({', '.join(_HOLDERS)}) WHERE userId IS NOT NULL"
DAYS = "CREATE INDEX days_{generation} ON {table} (expireAt, couponCode) WHERE used = 0"
PUT = f"""
INSERT INTO {{table}} ({COLUMNS}) VALUES ({", ".join("?" * len(FIELDS))})
ON CONFLICT (couponCode) DO UPDATE SET {", ".join(f"{field} = excluded.{field}" for field in FIELDS[1:])}
WHERE excluded.version > version
"""  # noqa: S608 - made of names in this file
# A command never changes a coupon's days, and few change whether it is used. An update that leaves both alone does not
# write their index.
_FIXED = ("validFrom", "expireAt", "createdAt")
_CHANGING = tuple(field for field in FIELDS if field not in ("couponCode", "used", *_FIXED))
CHANGE = f"""
UPDATE {{table}} SET {", ".join(f"{field} = ?" for field in _CHANGING)}{{used}}
WHERE couponCode = ? AND version < ? AND {" AND ".join(f"{field} = ?" for field in _FIXED)}{{unused}}
"""  # noqa: S608 - made of names in this file
_STAYS_UNUSED, _IS_USED = {"used": "", "unused": " AND used = 0"}, {"used": ", used = 1", "unused": ""}
_CHANGES = itemgetter(*_CHANGING, "couponCode", "version", *_FIXED)
"""The parameters of ``CHANGE``."""
FIND = f"""
SELECT {COLUMNS} FROM documents WHERE {{conditions}} couponCode > :after ORDER BY couponCode LIMIT :limit
"""  # noqa: S608 - made of names in this file
# The plus sign prevents the index of days, with which SQLite would read all users' coupons of that day.
CONDITIONS = {
    (False, False): "",
    (False, True): "used = 0 AND expireAt = :unused_until AND",
    (True, False): "userId = :user_id AND",
    (True, True): "userId = :user_id AND +used = 0 AND +expireAt = :unused_until AND",
}

COUNT = "SELECT used, issued, count(*) FROM documents GROUP BY used, issued"
STEPS = 100_000
"""So many steps of SQLite, a few milliseconds, are between two looks at the time."""


class SqliteSearch(Search):
    """A table for each generation. The end of a rebuild renames the table. Indices cannot be renamed, so those of each
    generation have names of their own."""

    def __init__(self, path: str, timeout_s: float = 5.0, synchronous: str = "normal") -> None:
        self._path, self._timeout_s = path, timeout_s
        self._file = SqliteFile(path, PRAGMAS, timeout_s, synchronous, MIGRATIONS)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(url.file(), **url.options(timeout_s=5.0, synchronous="normal"))

    def ping(self) -> None:
        with self._reading() as connection:
            connection.execute("SELECT 1 FROM documents LIMIT 1").fetchone()

    def close(self) -> None:
        self._file.close()

    def create(self) -> None:
        self._file.migrate()
        with self._file.write() as connection:
            if PRESENT not in _tables(connection):
                _make(connection, PRESENT)
            for table in _tables(connection):
                _add_columns(connection, table)

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        documents = [document(coupon) for coupon in coupons]
        with self._file.write() as connection, self._missing_names():
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

    def count(self) -> Counts:
        deadline = time.monotonic() + self._timeout_s
        with self._reading() as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
            try:
                rows = connection.execute(COUNT).fetchall()
            finally:
                connection.set_progress_handler(None, 0)
        used = sum(number for is_used, _, number in rows if is_used)
        issued = sum(number for is_used, is_issued, number in rows if is_issued and not is_used)
        return Counts(sum(number for *_, number in rows) - used - issued, issued, used)

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
        with self._file.read() as connection, self._missing_names():
            yield connection

    @contextmanager
    def _missing_names(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise self._missing() from error
            if "no such column" in str(error) or "has no column" in str(error):
                raise BackendUnavailable(f"{self._path} lacks a field of this version: run `coupon init`") from error
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
    """The tables of the generations that exist."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _make(connection: sqlite3.Connection, table: str) -> str:
    """Make the table; returns the name of its generation."""
    generation = secrets.token_hex(8)
    for statement in (TABLE, HOLDERS, DAYS):
        connection.execute(statement.format(table=table, generation=generation))
    return generation


def _add_columns(connection: sqlite3.Connection, table: str) -> None:
    """Add the columns that a table of an earlier version lacks. The index of holders has all columns: it is
    recreated."""
    present = columns(connection, table)
    missing = [field for field in FIELDS if field not in present]
    for field in missing:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {_column(DOCUMENT_FIELDS[field])}")
    if missing:
        _make_again(connection, table, "holders", HOLDERS)


def _make_again(connection: sqlite3.Connection, table: str, kind: str, statement: str) -> None:
    """Recreate the table's index of that kind, with this statement."""
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND name LIKE ?", (table, f"{kind}%")
    ).fetchall():
        connection.execute(f"DROP INDEX {name}")
        connection.execute(statement.format(table=table, generation=name.removeprefix(f"{kind}_")))


def _days_without_used(connection: sqlite3.Connection) -> None:
    """Recreate the index of days: in version 0 it may have used coupons."""
    for table in _tables(connection):
        _make_again(connection, table, "days", DAYS)


MIGRATIONS = (_days_without_used,)


def _check_is_next(connection: sqlite3.Connection, generation: str) -> None:
    index = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = ? AND tbl_name = ?", (f"holders_{generation}", NEXT)
    )
    if index.fetchone() is None:
        raise BackendRejected("another rebuild was begun, which discarded this one")


def _change(connection: sqlite3.Connection, table: str, documents: Sequence[Document]) -> None:
    """Write the documents. Fast where they are new coupons, and commands on indexed ones, as nearly always."""
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
    for name in _FLAGS:
        fields[name] = None if fields[name] is None else bool(fields[name])
    return cast(Document, fields)
