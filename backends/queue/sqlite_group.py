"""Groups of a SQLite queue: their members, the owners of partitions, and the thread that renews a membership."""

import itertools
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from sqlite3 import Connection
from typing import NamedTuple

from backends.queue.partitions import POLL_GAP_MAX_S, fair_share
from backends.sqlite import SqliteFile
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Position


class Place(NamedTuple):
    """A partition of a group: its id, the group's next offset, and the member that owns it."""

    id: int
    position: Position
    next: int
    owner: str | None


class Shares(NamedTuple):
    """The partitions that a member owns after ``share``, which of them it owned before, and whether its share is
    complete."""

    owned: list[Place]
    kept: set[Position]
    complete: bool


class Membership:
    """One member of a group. Every method is called within a write transaction, so that each partition has one owner,
    and an owner is one of the living.

    A living member beats: it changes its row. When another member sees the same row for ``lease_s``, by its own timer,
    it expels that member. So no clock is compared with another one, nor with itself before it was set.
    """

    def __init__(self, group: str, name: str, topics: Sequence[str], lease_s: float) -> None:
        self._group, self._name, self._topics, self.lease_s = group, name, topics, lease_s
        self._beats = itertools.count()
        self._seen: dict[str, tuple[int, float]] = {}
        """The last beat of each member, and when it was first seen."""

    def share(self, db: Connection, now: float) -> Shares:
        """Stay in the group, and own a fair share: release partitions beyond it, or take free ones. ``now``: seconds of
        this member's timer, which never go back."""
        self._expel(db, now)
        kept = {place.position for topic in self._topics for place in self._places(db, topic) if self._is_mine(place)}
        for topic in self._topics:
            self._join(db, topic)
        complete = [self._share_topic(db, topic) for topic in self._topics]
        owned = [place for topic in self._topics for place in self._places(db, topic) if self._is_mine(place)]
        return Shares(owned, kept, all(complete))

    def leave(self, db: Connection) -> None:
        db.execute("DELETE FROM beats WHERE party = ? AND member = ?", (self._group, self._name))
        db.execute("UPDATE cursors SET owner = NULL WHERE party = ? AND owner = ?", (self._group, self._name))

    def commit(self, db: Connection, place: int, offset: int) -> bool:
        """Commit the offset. False, and nothing changed, when another member owns the partition by now."""
        query = "UPDATE cursors SET next = ? WHERE party = ? AND place = ? AND owner = ?"
        return db.execute(query, (offset, self._group, place, self._name)).rowcount == 1

    def renew(self, db: Connection) -> None:
        """Stay in the group. It does nothing when the member is expelled already."""
        query = "UPDATE beats SET beat = ? WHERE party = ? AND member = ?"
        db.execute(query, (next(self._beats), self._group, self._name))

    def _is_mine(self, place: Place) -> bool:
        return place.owner == self._name

    def _expel(self, db: Connection, now: float) -> None:
        query = "SELECT member, max(beat) FROM beats WHERE party = ? AND member <> ? GROUP BY member"
        beats = dict(db.execute(query, (self._group, self._name)))
        seen = {member: self._seen.get(member, (beat, now)) for member, beat in beats.items()}
        self._seen = {
            member: seen[member] if seen[member][0] == beat else (beat, now) for member, beat in beats.items()
        }
        dead = [member for member, (_, since) in self._seen.items() if now - since >= self.lease_s]
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
        places = self._places(db, topic)
        due = fair_share(topic, len(places), self._name, living)
        mine = [place for place in places if self._is_mine(place)]
        free = [place for place in places if place.owner is None][: max(0, due - len(mine))]
        owners = [(None, place) for place in mine[due:]] + [(self._name, place) for place in free]
        query = "UPDATE cursors SET owner = ? WHERE party = ? AND place = ?"
        db.executemany(query, [(owner, self._group, place.id) for owner, place in owners])
        return len(mine) + len(free) >= due

    def _places(self, db: Connection, topic: str) -> list[Place]:
        query = """
            SELECT id, partition, cursors.next, owner FROM partitions JOIN cursors ON place = id
            WHERE party = ? AND topic = ? ORDER BY partition"""
        rows = db.execute(query, (self._group, topic))
        return [Place(place, Position(topic, partition), next_, owner) for place, partition, next_, owner in rows]


class Renewer(threading.Thread):
    """Keeps a member in its group while it works on a long batch, for up to the longest time between two polls.

    The beats end with the process, also after ``kill -9``.
    """

    def __init__(self, file: SqliteFile, membership: Membership) -> None:
        super().__init__(name="queue-lease", daemon=True)
        self._file, self._membership = file, membership
        self._stopped = threading.Event()
        self._polled_at = time.monotonic()

    def polled(self) -> None:
        self._polled_at = time.monotonic()

    def run(self) -> None:
        while not self._stopped.wait(self._membership.lease_s / 3):
            if time.monotonic() - self._polled_at < POLL_GAP_MAX_S:
                with suppress(BackendUnavailable), self._file.write() as db:
                    self._membership.renew(db)
        self._file.close()

    def stop(self) -> None:
        """Return when the thread has ended. If the process forked while the thread is inside SQLite, the child would
        wait indefinitely for a lock of SQLite's own."""
        self._stopped.set()
        self.join()
