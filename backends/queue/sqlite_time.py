"""The time of a SQLite queue (``queue_time.py``), stored in its file."""

from sqlite3 import Connection

from backends.queue.queue_time import QueueTime

SCHEMA = "CREATE TABLE IF NOT EXISTS time (now REAL NOT NULL);"
BEGIN = "INSERT INTO time SELECT strftime('%s', 'now')"
"""A file's time begins with the time of day, by which version 511aa48 dated its messages."""


def advance(db: Connection, time: QueueTime) -> None:
    """Set the file's time to the present one. For use within a write transaction."""
    db.execute("UPDATE time SET now = ?", (time.after(file_time(db)),))


def file_time(db: Connection) -> float:
    """The time when a member last advanced it. For use within a write transaction."""
    row = db.execute("SELECT now FROM time").fetchone()
    if row is None:
        db.execute(BEGIN)
        return file_time(db)
    now: float = row[0]
    return now
