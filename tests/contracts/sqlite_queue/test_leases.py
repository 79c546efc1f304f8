"""A member of a group has its partitions for a lease, which each poll renews."""

import sqlite3
from contextlib import closing
from pathlib import Path

from backends.queue.sqlite import SqliteQueue
from backends.testing.queue_driving import ends, messages
from backends.testing.timing import Clock


def test_a_member_that_is_there_keeps_its_partitions_however_seldom_others_look(
    ageing: SqliteQueue, clock: Clock
) -> None:
    ageing.publish(messages(20))
    owner, other = ageing.consumer(["t"], "g"), ageing.consumer(["watched"], "g")
    in_flight = owner.poll(100, 0)
    for _ in range(5):
        assert other.poll(100, 0) == []
        clock.now += 10_000
        assert owner.poll(100, 0) == []
    owner.commit(ends(in_flight))


def test_a_lease_of_an_older_version_holds_nobody_up(ageing: SqliteQueue, tmp_path: Path) -> None:
    """511aa48 wrote until when a member lives, by a clock that may have been ahead."""
    ageing.publish(messages(20))
    with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE members (party TEXT NOT NULL, topic TEXT NOT NULL, member TEXT NOT NULL,"
            " until REAL NOT NULL, PRIMARY KEY (party, topic, member)) WITHOUT ROWID"
        )
        db.execute("INSERT INTO members VALUES ('g', 't', 'of 511aa48', 9e12)")
        db.execute("INSERT INTO cursors SELECT 'g', id, 7, 'of 511aa48' FROM partitions WHERE topic = 't'")
    assert [d.offset for d in ageing.consumer(["t"], "g").poll(100, 0)] == list(range(7, 20))
