"""One SQLite file shared by threads and processes: the base of the four SQLite backends.

Every write transaction, with the checkpoint that it may cause, holds one ``flock``. SQLite before 3.51.3 can corrupt a
WAL file when several connections write or checkpoint at once. A lock of the kernel is also fairer than SQLite's own
busy handler. Local disks only: neither WAL nor ``flock`` works over a network (decision 6).
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from coupon.domain.errors import BackendUnavailable, ConfigurationError

Migration = Callable[[sqlite3.Connection], None]
"""A step from one version of a file to the next, by ``execute`` alone: all steps are one transaction."""
NO_TEXT = "Could not decode to UTF-8"
"""How the error of Python's driver begins when a text is no UTF-8. It fails the whole query."""


class SqliteFile:
    """A file that is opened lazily, with one connection for each thread and process. When it is replaced, they reopen.

    ``schema``: idempotent statements (``CREATE … IF NOT EXISTS``).
    ``migrations``: the steps from the first version to the present one; their number is the ``user_version``. A file
    of an earlier version is BackendUnavailable until ``migrate``; one without tables is of the present version.
    ``synchronous``: with ``normal`` a power loss (never the crash of a process) may lose the last commits.
    """

    def __init__(
        self,
        path: str,
        schema: str,
        timeout_s: float,
        synchronous: str,
        migrations: Sequence[Migration] = (),
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(f"synchronous={synchronous!r} is neither normal nor full")
        self._path, self._schema, self._migrations = Path(path), schema, migrations
        self._timeout_s, self._synchronous = timeout_s, synchronous
        self._local = threading.local()
        self._writing = threading.Lock()
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reads; each SELECT has a snapshot of its own."""
        with self._errors():
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The only write transaction on the file: committed at the end, rolled back on an error."""
        with self._errors(), self._lock():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def migrate(self) -> None:
        """Migrate a file of an earlier version, in one transaction. Idempotent."""
        with self._errors(), self._lock(), closing(self._open()) as connection:
            connection.execute("BEGIN IMMEDIATE")  # closing the connection rolls back what is not committed
            for step in self._migrations[self._version(connection) :]:
                step(connection)
            connection.execute(f"PRAGMA user_version={len(self._migrations)}")
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
        with self._lock():
            connection = self._open()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise BackendUnavailable(f"{self._path} was closed")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the missing tables; raise BackendUnavailable when the file is of another version."""
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        if self._version(connection) < len(self._migrations):
            raise BackendUnavailable(f"{self._path} is of an earlier version of coupon; run: coupon init")
        connection.executescript(self._schema)

    def _version(self, connection: sqlite3.Connection) -> int:
        """The file's version; raises BackendUnavailable for a later one. A file without tables gets the present one."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._migrations):
            raise BackendUnavailable(f"{self._path} is of a later version of coupon ({version})")
        if not version and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            version = len(self._migrations)
            connection.execute(f"PRAGMA user_version={version}")
        return int(version)

    def _identity(self) -> tuple[int, int, int] | None:
        """The process and the file. When one of them changes, the connection is invalid."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return os.getpid(), status.st_dev, status.st_ino

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """The writer's lock, for threads and processes; re-entrant within a thread."""
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
    """All rows. A text that is no UTF-8 is returned as bytes, and fails no other row."""
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


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The names of the table's columns; empty when there is no such table."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
