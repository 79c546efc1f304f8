"""The queue in one SQLite file: shared by all processes of a machine, gapless and ordered, as durable as the disk."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from sqlite3 import Connection
from typing import Self
from uuid import uuid4

from backends.queue import sqlite_time
from backends.queue.consumers import Consumers
from backends.queue.leased_consumer import LeasedConsumer
from backends.queue.membership import Renewer
from backends.queue.partitions import POLL_BYTES_MAX, partition_of, refuse_oversized
from backends.queue.sqlite_member import SqliteMember, page
from backends.sqlite import SqliteFile
from coupon.domain.errors import BackendRejected
from coupon.ports.queue import Delivery, Message, Position, Queue
from coupon.ports.url import Url

SCHEMA = """
CREATE TABLE IF NOT EXISTS partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition)
);
CREATE TABLE IF NOT EXISTS messages (
    place INTEGER NOT NULL, offset INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (place, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS beats (
    party TEXT NOT NULL, topic TEXT NOT NULL, member TEXT NOT NULL, beat INTEGER NOT NULL,
    PRIMARY KEY (party, topic, member)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    party TEXT NOT NULL, place INTEGER NOT NULL, next INTEGER NOT NULL, owner TEXT, PRIMARY KEY (party, place)
) WITHOUT ROWID;
"""
"""``place`` is a partition's id, ``party`` a consumer group. A partition holds the offsets from ``first`` to before
``next``. Only the member ``owner`` may deliver and commit its messages. ``at`` is the file's time. Version 511aa48 had
a table ``members``: a member that is only there is not living."""


class SqliteQueue(Queue):
    """Messages that all groups have committed are deleted when they are older than ``retention_s``; in a topic without
    a group none is. A member without a heartbeat for ``lease_s`` loses its partitions. Both times are measured by the
    ``timer`` of living members, which returns seconds and is never set."""

    def __init__(
        self,
        path: str,
        timeout_s: float = 5.0,
        synchronous: str = "normal",
        partitions: int = 8,
        retention_s: float = 86_400.0,
        lease_s: float = 6.0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partitions, self._retention_s, self._lease_s, self._timer = partitions, retention_s, lease_s, timer
        self._new_file = partial(SqliteFile, path, SCHEMA + sqlite_time.SCHEMA, timeout_s, synchronous)
        self._file = self._new_file()
        self._consumers = Consumers[LeasedConsumer]()

    @classmethod
    def from_url(cls, url: Url) -> Self:
        options = url.options(timeout_s=5.0, synchronous="normal", partitions=8, retention_s=86_400.0, lease_s=6.0)
        return cls(url.file(), **options)

    def ping(self) -> None:
        with self._file.read() as db:
            db.execute("SELECT 1 FROM partitions").fetchone()

    def close(self) -> None:
        self._consumers.close()
        self._file.close()

    def create(self, topics: Iterable[str]) -> None:
        with self._file.write() as db:
            for topic in topics:
                if not _is_there(db, topic):
                    rows = [(topic, partition) for partition in range(self._partitions)]
                    db.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows)

    def publish(self, messages: Sequence[Message]) -> None:
        refuse_oversized(messages)
        if not messages:
            return

        def append(db: Connection) -> None:
            ends = {topic: _ends(db, topic) for topic in {message.topic for message in messages}}
            rows, now = [], sqlite_time.file_time(db)
            for message in messages:
                end = ends[message.topic][partition_of(message.key, len(ends[message.topic]))]
                rows.append((end[0], end[1], message.key, message.value, now))
                end[1] += 1
            db.executemany("INSERT INTO messages (place, offset, key, value, at) VALUES (?, ?, ?, ?, ?)", rows)
            grown = [(next_, place) for topic in ends.values() for place, next_ in topic]
            db.executemany("UPDATE partitions SET next = ?1 WHERE id = ?2 AND next <> ?1", grown)

        self._file.write_together(append)

    def consumer(self, topics: Sequence[str], group: str) -> LeasedConsumer:
        self._consumers.check_open()
        renewing, name = self._new_file(), uuid4().hex
        member = SqliteMember(
            self._file, renewing, group, name, sorted(set(topics)), self._lease_s, self._retention_s, self._timer
        )
        renewer = Renewer(self._lease_s / 3, member.renew, renewing.close)
        return self._consumers.add(LeasedConsumer(member, renewer, self._timer))

    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        return {
            position: next_
            for topic, rows in self._partitions_of(topics).items()
            for position, _, next_ in rows
            if key is None or position.partition == partition_of(key, len(rows))
        }

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        return {position: first for rows in self._partitions_of(topics).values() for position, first, _ in rows}

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        query = """
            SELECT coalesce(max(first, cursors.next), first)
            FROM partitions LEFT JOIN cursors ON place = id AND party = ? WHERE topic = ? AND partition = ?"""
        with self._file.read() as db:
            rows = {position: db.execute(query, (group, *position)).fetchone() for position in positions}
        return {position: _first_cell(position, row) for position, row in rows.items()}

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        with self._file.read() as db:
            row = db.execute("SELECT id FROM partitions WHERE topic = ? AND partition = ?", position).fetchone()
            messages = page(db, _first_cell(position, row), offset, limit, POLL_BYTES_MAX)
        return [Delivery(*position, offset, key, value) for offset, key, value in messages]

    def _partitions_of(self, topics: Sequence[str]) -> dict[str, list[tuple[Position, int, int]]]:
        """(position, first, next) of each partition of each topic."""
        query = "SELECT partition, first, next FROM partitions WHERE topic = ? ORDER BY partition"
        with self._file.read() as db:
            by_topic = {topic: db.execute(query, (topic,)).fetchall() for topic in topics}
        for topic, rows in by_topic.items():
            if not rows:
                raise _no_topic(topic)
        return {topic: [(Position(topic, row[0]), *row[1:]) for row in rows] for topic, rows in by_topic.items()}


def _ends(db: Connection, topic: str) -> list[list[int]]:
    """[id, next] of each of the topic's partitions."""
    ends = [
        list(row) for row in db.execute("SELECT id, next FROM partitions WHERE topic = ? ORDER BY partition", (topic,))
    ]
    if not ends:
        raise _no_topic(topic)
    return ends


def _no_topic(topic: str) -> BackendRejected:
    return BackendRejected(f"there is no topic {topic!r}; run: coupon init")


def _first_cell(position: Position, row: tuple[int] | None) -> int:
    """Raises BackendRejected when there is no row for that partition."""
    if row is None:
        raise BackendRejected(f"there is no partition {position.topic}/{position.partition}")
    return row[0]


def _is_there(db: Connection, topic: str) -> bool:
    return db.execute("SELECT 1 FROM partitions WHERE topic = ? LIMIT 1", (topic,)).fetchone() is not None
