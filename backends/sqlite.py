"""One SQLite file shared by threads and processes: the base of the four SQLite backends.

Every write transaction, with the checkpoint that it may cause, holds one ``flock``. SQLite before 3.51.3 can corrupt a
WAL file when several connections write or checkpoint at once. A lock of the kernel is also fairer than SQLite's own
busy handler. Local disks only: neither WAL nor ``flock`` works over a network (decision 6).

Threads of a process that write at the same time share one transaction (decision 26).
"""

import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.group_commit import ForkedGroupCommit

Migration = Callable[[sqlite3.Connection], None]
"""A step from one version of a file to the next, by ``execute`` alone: all steps are one transaction."""
Result = TypeVar("Result")
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
        self.path, self._name, self._schema, self._migrations = Path(path), path, schema, migrations
        self._timeout_s, self._synchronous = timeout_s, synchronous
        self._local = threading.local()
        self._writing = threading.Lock()
        self._lock_path = f"{path}.lock"
        self._lock_file = _NO_LOCK_FILE
        self._prepared: tuple[int, int, int] | None = None
        """The process and the file whose tables are there."""
        self._group = ForkedGroupCommit[_Job](self._serve)
        self._closed = False

    def select(self, statement: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of one SELECT, as ``fetch`` returns them."""
        try:
            return fetch(self._connection(), statement, parameters)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reads; each SELECT has a snapshot of its own."""
        with self._errors():
            yield self._connection()

    @contextmanager
    def write(self, deadline: float | None = None) -> Iterator[sqlite3.Connection]:
        """The only write transaction on the file: committed at the end, rolled back on an error. It waits for other
        writers until the deadline of ``time.monotonic()``, or for ``timeout_s``."""
        with self._errors(), self._lock(deadline):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def write_together(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """The result of ``work``, once it is committed. Threads whose work waits at the same time share a transaction.

        When some work raises, all of it is rolled back and done again, where what raises is left out. So ``work`` may
        be called twice, and changes nothing but the file. Raises the error of its own work, or BackendUnavailable.
        """
        job = _Job(work, time.monotonic() + self._timeout_s)
        try:
            self._group.do(job, job.deadline)
        except TimeoutError as error:
            raise BackendUnavailable(f"{self.path} was locked for {self._timeout_s} s by other threads") from error
        if job.error is not None:
            with self._errors():
                raise job.error
        if not job.is_committed:
            raise BackendUnavailable(f"{self.path}: the transaction was not committed")
        result: Result = job.result
        return result

    def _serve(self, jobs: Sequence["_Job"], deadline: float) -> None:
        """Do all work in one transaction. Nearly always none raises; if one does, all is done again with savepoints."""
        try:
            self._commit(jobs, deadline, _Job.run)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = error
            elif any(job.has_raised for job in jobs):
                self._serve_each(jobs, deadline)
            else:
                _fail(jobs, error)

    def _serve_each(self, jobs: Sequence["_Job"], deadline: float) -> None:
        try:
            self._commit(jobs, deadline, _Job.run_whole)
        except Exception as error:
            _fail(jobs, error)

    def _commit(
        self, jobs: Sequence["_Job"], deadline: float, run: Callable[["_Job", sqlite3.Connection], None]
    ) -> None:
        """Do the work of those who still wait for it. The others were told that it failed."""
        with self.write(deadline) as connection:
            now = time.monotonic()
            jobs = [job for job in jobs if job.deadline > now]
            for job in jobs:
                run(job, connection)
        for job in jobs:
            job.is_committed = job.error is None

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
        if self._writing.acquire(timeout=self._timeout_s):
            self._close_lock_file()
            self._writing.release()

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise BackendUnavailable(f"{self.path} was closed")
        identity = self._identity()
        if identity is None or getattr(self._local, "identity", None) != identity:
            self._local.connection = self._connect(identity)
            self._local.identity = self._identity()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _connect(self, identity: tuple[int, int, int] | None) -> sqlite3.Connection:
        """A new connection. Only the first one of a process to a file waits for writers."""
        is_prepared = identity is not None and identity == self._prepared
        with nullcontext() if is_prepared else self._lock():
            connection = self._open()
            try:
                self._prepare(connection)  # where all is there, it only reads
            except BaseException:
                connection.close()
                raise
            self._prepared = self._identity()
        return connection

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise BackendUnavailable(f"{self.path} was closed")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(
            self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the missing tables; raise BackendUnavailable when the file is of another version."""
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        if self._version(connection) < len(self._migrations):
            raise BackendUnavailable(f"{self.path} is of an earlier version of coupon; run: coupon init")
        connection.executescript(self._schema)

    def _version(self, connection: sqlite3.Connection) -> int:
        """The file's version; raises BackendUnavailable for a later one. A file without tables gets the present one."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._migrations):
            raise BackendUnavailable(f"{self.path} is of a later version of coupon ({version})")
        if not version and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            version = len(self._migrations)
            connection.execute(f"PRAGMA user_version={version}")
        return int(version)

    def _identity(self) -> tuple[int, int, int] | None:
        """The process and the file. When one of them changes, the connection is invalid."""
        try:
            status = os.stat(self._name)
        except FileNotFoundError:
            return None
        return os.getpid(), status.st_dev, status.st_ino

    @contextmanager
    def _lock(self, deadline: float | None = None) -> Iterator[None]:
        """The writer's lock, for threads and processes; re-entrant within a thread."""
        if getattr(self._local, "locked", False):
            yield
            return
        now = time.monotonic()
        deadline = now + self._timeout_s if deadline is None else deadline
        if not self._writing.acquire(timeout=max(0.0, deadline - now)):
            raise BackendUnavailable(f"{self.path} was locked for {self._timeout_s} s by another thread")
        try:
            descriptor = self._lock_descriptor()
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise BackendUnavailable(f"{self.path} was locked for {self._timeout_s} s by another process")
                time.sleep(0.001)
            self._local.locked = True
            try:
                yield
            finally:
                self._local.locked = False
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            self._writing.release()

    def _lock_descriptor(self) -> int:
        """Of the lock file, which stays open. It is opened again when it was replaced, and after a fork: a parent and
        its child would hold one lock. Who is forked during a write keeps that lock when the parent is killed then."""
        kept = self._lock_file
        try:
            status = os.stat(self._lock_path)
            if kept.is_of(status):
                return kept.descriptor
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._close_lock_file()
        self._lock_file = _LockFile.opened(self._lock_path)
        return self._lock_file.descriptor

    def _close_lock_file(self) -> None:
        """Close it once, whatever fails afterwards: its number may be another file's by then."""
        kept, self._lock_file = self._lock_file, _NO_LOCK_FILE
        kept.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> BackendUnavailable:
        return BackendUnavailable(f"{self.path}: {error}")


class _Job:
    """The work of one caller, and what came of it."""

    __slots__ = ("deadline", "error", "has_raised", "is_committed", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], deadline: float) -> None:
        self.work, self.deadline = work, deadline
        self.is_committed = self.has_raised = False
        self.result: Any = None
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        try:
            self.result = self.work(connection)
        except Exception:
            self.has_raised = True
            raise

    def run_whole(self, connection: sqlite3.Connection) -> None:
        """Do the work. When it raises, it is rolled back to where it began, and the others' goes on."""

        def work() -> bool:
            self.run(connection)
            return True

        try:
            whole(connection, work)
        except Exception as error:
            if not connection.in_transaction:  # SQLite itself gave up the transaction: the disk is full
                raise
            self.error = error


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    """Nothing was written. Work that raised keeps its own error."""
    for job in jobs:
        job.error = job.error or BackendUnavailable(str(error))


OWNER_ONLY = 0o600


class _LockFile(NamedTuple):
    """An open lock file, of one process. Whoever can read it can hold the lock, and so stop all commands."""

    descriptor: int
    process: int
    device: int
    inode: int

    @classmethod
    def opened(cls, path: str) -> Self:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, OWNER_ONLY)
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) != OWNER_ONLY and status.st_uid == os.geteuid():  # of an earlier version
            os.fchmod(descriptor, OWNER_ONLY)
        return cls(descriptor, os.getpid(), status.st_dev, status.st_ino)

    def is_of(self, status: os.stat_result) -> bool:
        return (self.process, self.device, self.inode) == (os.getpid(), status.st_dev, status.st_ino)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


_NO_LOCK_FILE = _LockFile(-1, -1, -1, -1)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def whole(connection: sqlite3.Connection, work: Callable[[], bool]) -> bool:
    """Do the work within a transaction, and undo all of it when it returns False or raises. Returns what it returns."""
    is_whole = False
    connection.execute("SAVEPOINT whole")
    try:
        is_whole = work()
    finally:
        if connection.in_transaction:
            if not is_whole:
                connection.execute("ROLLBACK TO whole")
            connection.execute("RELEASE whole")
    return is_whole


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
