"""One SQLite file shared by threads and processes: what the four SQLite backends stand on.

Every write transaction, and the checkpoint that it may bring, is taken under one ``flock``: SQLite before 3.51.3
can corrupt a WAL file when several connections write or checkpoint at once, and waiting for a lock of the kernel is
fairer than SQLite's own busy handler. Local disks only: neither WAL nor ``flock`` works over a network.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coupon.ports.backend import BackendUnavailable
from coupon.ports.url import ConfigurationError

NO_TEXT = "Could not decode to UTF-8"
"""What Python's driver says of a text that is none, for all rows of a query."""


class SqliteFile:
    """Opens lazily, one connection a thread and process; follows the file when it is replaced.

    ``schema``: statements that each are idempotent (``CREATE … IF NOT EXISTS``). ``added``: (table, column, type) of
    each column that files of older versions lack; it is the table's last one.
    ``synchronous``: ``normal`` may lose the last commits at power loss (never at a crash of a process); ``full`` not.
    """

    def __init__(
        self,
        path: str,
        schema: str,
        timeout_s: float,
        synchronous: str,
        added: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(f"synchronous={synchronous!r} is neither normal nor full")
        self._path, self._schema, self._added = Path(path), schema, added
        self._timeout_s, self._synchronous = timeout_s, synchronous
        self._local = threading.local()
        self._writing = threading.Lock()
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; several SELECTs see several moments."""
        with self._errors():
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside: committed at the end, rolled back on an error."""
        with self._errors(), self._lock():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def close(self) -> None:
        self._closed = True
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise BackendUnavailable(f"{self._path} was closed")
        identity = self._identity()
        if identity is None or getattr(self._local, "identity", None) != identity:
            self._local.connection = self._connect()
            self._local.identity = self._identity()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        with self._lock():
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.executescript(self._schema)
            for table, column, kind in self._added:
                if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        return connection

    def _identity(self) -> tuple[int, int, int] | None:
        """Of the process and the file: a connection is worth nothing after a fork or when its file was replaced."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return os.getpid(), status.st_dev, status.st_ino

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """The one writer's lock, of threads and processes; re-entrant within a thread."""
        if getattr(self._local, "locked", False):
            yield
            return
        deadline = time.monotonic() + self._timeout_s
        if not self._writing.acquire(timeout=self._timeout_s):
            raise BackendUnavailable(f"{self._path} was locked for {self._timeout_s} s by another thread")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(f"{self._path}.lock", "wb") as file:
                while not _locked(file.fileno()):
                    if time.monotonic() > deadline:
                        raise BackendUnavailable(f"{self._path} was locked for {self._timeout_s} s by another process")
                    time.sleep(0.001)
                self._local.locked = True
                try:
                    yield
                finally:
                    self._local.locked = False
        finally:
            self._writing.release()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BackendUnavailable(f"{self._path}: {error}") from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fetch(connection: sqlite3.Connection, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
    """All rows. A text that is no UTF-8 is bytes, and spoils no other row."""
    try:
        return connection.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if NO_TEXT not in str(error):
            raise
    connection.text_factory = _text
    try:
        return connection.execute(statement, parameters).fetchall()
    finally:
        connection.text_factory = str


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
