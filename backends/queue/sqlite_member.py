"""One member of a group of a SQLite queue: it shares, takes, commits and prunes, each in one transaction."""

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from sqlite3 import Connection
from typing import NamedTuple

from backends.queue.leased_consumer import Member, Share
from backends.queue.membership import Heartbeats, share_out
from backends.queue.partitions import POLL_BYTES_MAX, PRUNE_MAX
from backends.queue.queue_time import QueueTime
from backends.queue.sqlite_time import advance, file_time
from backends.sqlite import SqliteFile
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Delivery, Position

LOOK_MIN_S, LOOK_MAX_S = 0.002, 0.02
"""The pause between two looks of a waiting poll grows from the first to the second."""


class _Place(NamedTuple):
    """A partition of a group: its id, the group's next offset, and the member that owns it."""

    id: int
    position: Position
    next: int
    owner: str | None


class SqliteMember(Member):
    """``renewing`` is another handle of the file, for the thread that renews the membership."""

    def __init__(
        self,
        file: SqliteFile,
        renewing: SqliteFile,
        group: str,
        name: str,
        topics: Sequence[str],
        lease_s: float,
        retention_s: float,
        timer: Callable[[], float],
    ) -> None:
        self._file, self._renewing = file, renewing
        self._group, self._name, self._topics, self._retention_s = group, name, topics, retention_s
        self._beats, self._others = itertools.count(), Heartbeats(lease_s)
        self._time = QueueTime(timer)
        self._places: dict[Position, int] = {}
        self._version = 0

    def share(self, now: float, assigned: Collection[Position]) -> Share:
        with self._file.write() as db:
            advance(db, self._time)
            self._expel(db, now)
            before = {place.position for place in self._owned(db)}
            for topic in self._topics:
                self._join(db, topic)
            complete = [self._share_topic(db, topic) for topic in self._topics]
            owned = self._owned(db)
        self._places = {place.position: place.id for place in owned}
        kept = before & self._places.keys() & set(assigned)
        return Share(kept, {place.position: place.next for place in owned if place.position not in kept}, all(complete))

    def take(self, begins: Sequence[tuple[Position, int]], max_messages: int) -> list[Delivery]:
        found: list[Delivery] = []
        size = 0
        with self._file.read() as db:
            self._version = _version(db)
            for index, (position, begin) in enumerate(begins):
                fair = -(-(max_messages - len(found)) // (len(begins) - index))
                for offset, key, value in page(db, self._places[position], begin, fair, POLL_BYTES_MAX - size):
                    found.append(Delivery(*position, offset, key, value))
                    size += len(value)
        return found

    def wait(self, until: float) -> None:
        """Until another connection has written. The check reads shared memory, and is cheap."""
        nap_s = LOOK_MIN_S
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(nap_s, left_s))
            nap_s = min(nap_s * 1.5, LOOK_MAX_S)
            with self._file.read() as db:
                if _version(db) != self._version:
                    return

    def commit(self, positions: Mapping[Position, int]) -> None:
        query = "UPDATE cursors SET next = ? WHERE party = ? AND place = ? AND owner = ?"
        with self._file.write() as db:
            for position, offset in positions.items():
                place = self._places[position]
                if db.execute(query, (offset, self._group, place, self._name)).rowcount != 1:
                    raise BackendUnavailable(f"{position.topic}/{position.partition} is another member's by now")
                _prune(db, place, file_time(db) - self._retention_s)

    def renew(self) -> None:
        """Stay in the group. It does nothing when the member is expelled already."""
        query = "UPDATE beats SET beat = ? WHERE party = ? AND member = ?"
        with self._renewing.write() as db:
            db.execute(query, (next(self._beats), self._group, self._name))

    def leave(self) -> None:
        with self._file.write() as db:
            db.execute("DELETE FROM beats WHERE party = ? AND member = ?", (self._group, self._name))
            db.execute("UPDATE cursors SET owner = NULL WHERE party = ? AND owner = ?", (self._group, self._name))

    def _expel(self, db: Connection, now: float) -> None:
        query = "SELECT member, max(beat) FROM beats WHERE party = ? AND member <> ? GROUP BY member"
        dead = self._others.dead(dict(db.execute(query, (self._group, self._name))), now)
        db.executemany("DELETE FROM beats WHERE party = ? AND member = ?", [(self._group, member) for member in dead])
        living = "SELECT member FROM beats WHERE party = ?1"
        db.execute(f"UPDATE cursors SET owner = NULL WHERE party = ?1 AND owner NOT IN ({living})", (self._group,))  # noqa: S608

    def _join(self, db: Connection, topic: str) -> None:
        query = "INSERT INTO beats VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET beat = excluded.beat"
        db.execute(query, (self._group, topic, self._name, next(self._beats)))
        query = "INSERT OR IGNORE INTO cursors (party, place, next) SELECT ?, id, first FROM partitions WHERE topic = ?"
        db.execute(query, (self._group, topic))

    def _share_topic(self, db: Connection, topic: str) -> bool:
        query = "SELECT member FROM beats WHERE party = ? AND topic = ?"
        living = [member for (member,) in db.execute(query, (self._group, topic))]
        places = {place.position.partition: place for place in self._places_of(db, topic)}
        owners = {partition: place.owner for partition, place in places.items()}
        changes, complete = share_out(topic, owners, self._name, living)
        query = "UPDATE cursors SET owner = ? WHERE party = ? AND place = ?"
        db.executemany(query, [(owner, self._group, places[partition].id) for partition, owner in changes.items()])
        return complete

    def _owned(self, db: Connection) -> list[_Place]:
        places = [place for topic in self._topics for place in self._places_of(db, topic)]
        return [place for place in places if place.owner == self._name]

    def _places_of(self, db: Connection, topic: str) -> list[_Place]:
        query = """
            SELECT id, partition, cursors.next, owner FROM partitions JOIN cursors ON place = id
            WHERE party = ? AND topic = ? ORDER BY partition"""
        rows = db.execute(query, (self._group, topic))
        return [_Place(place, Position(topic, partition), next_, owner) for place, partition, next_, owner in rows]


def page(db: Connection, place: int, begin: int, limit: int, bytes_max: int) -> list[tuple[int, str, bytes]]:
    """(offset, key, value) from ``begin`` on, up to ``limit`` messages and ``bytes_max`` bytes.

    A message larger than ``bytes_max`` comes alone, so that it blocks nothing. Messages that others wrote are decoded
    as well as possible.
    """
    query = """
        SELECT offset, CAST(key AS BLOB), CAST(value AS BLOB) FROM messages
        WHERE place = ? AND offset >= ? ORDER BY offset LIMIT ?"""
    messages: list[tuple[int, str, bytes]] = []
    rows = db.execute(query, (place, begin, limit))
    while bytes_max > 0 and (row := rows.fetchone()) is not None:
        offset, key, value = row
        messages.append((offset, key.decode(errors="replace"), value))
        bytes_max -= len(value)
    rows.close()
    return messages


def _prune(db: Connection, place: int, before: float) -> None:
    """Delete some messages that all groups have committed and that are older than ``before``, the file's time. The
    oldest go first."""
    query = "SELECT first, (SELECT min(next) FROM cursors WHERE place = id) FROM partitions WHERE id = ?"
    first, committed = db.execute(query, (place,)).fetchone()
    end = min(committed, first + PRUNE_MAX)
    query = "SELECT offset FROM messages WHERE place = ? AND offset BETWEEN ? AND ? AND at >= ? ORDER BY offset LIMIT 1"
    young = db.execute(query, (place, first, end - 1, before)).fetchone()
    keep = young[0] if young else end
    if keep > first:
        db.execute("DELETE FROM messages WHERE place = ? AND offset < ?", (place, keep))
        db.execute("UPDATE partitions SET first = ? WHERE id = ?", (keep, place))


def _version(db: Connection) -> int:
    version: int = db.execute("PRAGMA data_version").fetchone()[0]
    return version
