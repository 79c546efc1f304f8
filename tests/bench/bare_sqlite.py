"""SQLite by hand, as a yardstick: a copy of one of our files, written in batches under the same lock, and nothing else
of ours."""

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

Rows = Sequence[Sequence[Any]]


class BareFile:
    """With the settings of our connections."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._lock = open(f"{path}.lock", "wb")  # noqa: SIM115 - closed with the file
        for pragma in ("journal_mode=WAL", "synchronous=normal", "wal_autocheckpoint=4000", "cache_size=-4000"):
            self._db.execute(f"PRAGMA {pragma}")

    def copy(self, source: Path) -> None:
        """All of the other file."""
        with closing(sqlite3.connect(source)) as original:
            original.backup(self._db)

    def make_tables_of(self, source: Path) -> None:
        """The tables and indices of the other file, empty."""
        for (statement,) in rows_of(source, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"):
            self._db.execute(statement)

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One transaction."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(statement, rows)
        self._db.commit()
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def update(self, table: str, key: str, rows: Rows) -> None:
        """All columns of each row but its key, which is the first, and given as the last value."""
        names = [name for (name,) in self._db.execute("SELECT name FROM pragma_table_info(?)", (table,))][1:]
        self.write(f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in names)} WHERE {key} = ?", rows)

    def close(self) -> None:
        self._db.close()
        self._lock.close()


def path_of(url: str) -> Path:
    """Of the file that an SQLite URL names."""
    return Path(url.removeprefix("sqlite:///"))


def rows_of(path: Path, query: str, parameters: Sequence[Any] = ()) -> Rows:
    """What the file says, asked past our backends."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query, parameters).fetchall()


def batches_of(path: Path, query: str, size: int) -> Iterator[Rows]:
    """The same, so many rows at a time."""
    with closing(sqlite3.connect(path)) as db:
        cursor = db.execute(query)
        while rows := cursor.fetchmany(size):
            yield rows


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[first : first + size] for first in range(0, len(rows), size))
