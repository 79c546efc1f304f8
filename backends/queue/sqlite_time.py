"""The time of a SQLite queue's file: the age of a message is measured by it.

It goes on second by second while a group has a member, and no clock that is set moves it. Without members no message
grows old.
"""

from collections.abc import Callable
from sqlite3 import Connection

SCHEMA = "CREATE TABLE IF NOT EXISTS time (now REAL NOT NULL);"
BEGIN = "INSERT INTO time SELECT strftime('%s', 'now')"
"""A file's time begins at that of the day: as 511aa48 dated its messages."""


class FileTime:
    """As one member carries it on, by a ``timer`` that is never set. For use within a write transaction."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began: float | None = None
        """The file's time when this member's timer was at nought."""

    def advance(self, db: Connection) -> float:
        """What the time is now."""
        now = told(db)
        if self._began is None:
            self._began = now - self._timer()
        now = max(now, self._began + self._timer())
        db.execute("UPDATE time SET now = ?", (now,))
        return now


def told(db: Connection) -> float:
    """What the time was when a member last told. For use within a write transaction."""
    row = db.execute("SELECT now FROM time").fetchone()
    if row is None:
        db.execute(BEGIN)
        return told(db)
    now: float = row[0]
    return now
