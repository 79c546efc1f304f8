"""The time of a SQLite queue's file, by which the age of messages is measured.

It runs while a group has a member, and no clock that is set moves it. Without members it stands still.
"""

from collections.abc import Callable
from sqlite3 import Connection

SCHEMA = "CREATE TABLE IF NOT EXISTS time (now REAL NOT NULL);"
BEGIN = "INSERT INTO time SELECT strftime('%s', 'now')"
"""A file's time begins with the time of day, by which version 511aa48 dated its messages."""


class FileTime:
    """The file's time, as one member advances it by its ``timer``, which is never set. For use within a write
    transaction."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began: float | None = None
        """The file's time when this member's timer was 0."""

    def advance(self, db: Connection) -> float:
        """Set the file's time to the present one, and return it."""
        now = file_time(db)
        if self._began is None:
            self._began = now - self._timer()
        now = max(now, self._began + self._timer())
        db.execute("UPDATE time SET now = ?", (now,))
        return now


def file_time(db: Connection) -> float:
    """The time when a member last advanced it. For use within a write transaction."""
    row = db.execute("SELECT now FROM time").fetchone()
    if row is None:
        db.execute(BEGIN)
        return file_time(db)
    now: float = row[0]
    return now
