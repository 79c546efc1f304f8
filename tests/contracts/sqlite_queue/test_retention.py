"""Messages in a file grow old by the time of the group's members, and so do leases."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from backends.queue.sqlite import SqliteQueue
from backends.testing.queue_driving import drain, messages
from tests.contracts.ageing_queue import AgeingQueue


class TestAgeingSqliteQueue(AgeingQueue):
    pass


def test_what_an_older_version_published_grows_old_from_then_on(ageing: SqliteQueue, tmp_path: Path) -> None:
    """511aa48 dated its messages by the clock, and had no time of the file's own."""
    ageing.publish(messages(10))
    with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
        db.execute("DROP TABLE time")
        db.execute("UPDATE messages SET at = ? - CASE WHEN offset < 4 THEN 200 ELSE 10 END", (time.time(),))
    queue = SqliteQueue(f"{tmp_path}/queue.db", partitions=1, retention_s=100)
    drain([queue.consumer(["t"], "g")], 10)
    assert [d.offset for d in queue.browse("t")] == [4, 5, 6, 7, 8, 9]
    queue.close()
