"""What is old and committed by all groups is deleted, and nothing else."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backends.queue.sqlite import SqliteQueue
from backends.queue.sqlite_member import PRUNE_MAX
from backends.testing.queue_driving import drain, ends, messages, poll, values
from coupon.ports.queue import Message


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


def test_old_messages_that_all_groups_have_committed_are_deleted(
    ageing: SqliteQueue, passing: Callable[[float], None]
) -> None:
    one, two = ageing.consumer(["t"], "one"), ageing.consumer(["t"], "two")
    ageing.publish(messages(10))
    drain([one], 10)
    poll(two, 10)
    passing(101)
    ageing.publish([Message("t", "k", b"young")])
    drain([one], 1)
    assert len(list(ageing.browse("t"))) == 11, "the group two has committed nothing"
    two.rewind()
    drain([two], 11)
    assert [(d.offset, d.value) for d in ageing.browse("t")] == [(10, b"young")]
    assert ageing.lag(["t"], "one") == ageing.lag(["t"], "two") == 0


def test_offsets_go_on_and_new_groups_begin_behind_what_was_deleted(
    ageing: SqliteQueue, passing: Callable[[float], None]
) -> None:
    consumer = ageing.consumer(["t"], "g")
    for value in (b"old", b"new"):
        ageing.publish([Message("t", "k", value)] * 5)
        passing(101)
        drain([consumer], 5)
    assert list(ageing.browse("t")) == []
    ageing.publish([Message("t", "k", b"last")])
    assert [d.offset for d in ageing.browse("t")] == [10]
    assert ageing.lag(["t"], "late") == 1
    assert values(poll(ageing.consumer(["t"], "late"), 1)) == [b"last"]


def test_what_no_group_reads_is_kept_indefinitely(ageing: SqliteQueue, passing: Callable[[float], None]) -> None:
    ageing.publish([Message("dead-letters", "k", b"v"), Message("t", "k", b"v")])
    passing(1_000_000)
    drain([ageing.consumer(["t"], "g")], 1)
    assert len(list(ageing.browse("dead-letters"))) == 1


def test_a_commit_deletes_a_bounded_number(ageing: SqliteQueue, passing: Callable[[float], None]) -> None:
    count = PRUNE_MAX * 2 + 1
    ageing.publish(messages(count))
    passing(101)
    consumer = ageing.consumer(["t"], "g")
    position = ends(poll(consumer, count))
    kept = []
    for _ in range(4):
        consumer.commit(position)
        kept.append(len(list(ageing.browse("t"))))
    assert kept == [PRUNE_MAX + 1, 1, 0, 0]
