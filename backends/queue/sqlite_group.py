"""Groups of a SQLite queue: who is in them, who owns which partition, and the thread that keeps a member in."""

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
    """A partition as a group sees it: its id, where the group is, and which member owns it."""

    id: int
    position: Position
    next: int
    owner: str | None


class Shares(NamedTuple):
    """What a member owns after sharing out; which of it was its own before; whether it has all that it is due."""

    owned: list[Place]
    kept: set[Position]
    complete: bool


class Membership:
    """One member of a group. Every method is called within a write transaction, so that each partition has one owner,
    and an owner is one of the living.

    A living member beats: what it wrote changes. Whoever has seen the same for ``lease_s``, by a timer of its own,
    takes it for dead. So no clock is compared with another's, nor with what it was before it was set, or a reboot.
    """

    def __init__(self, group: str, name: str, topics: Sequence[str], lease_s: float) -> None:
        self._group, self._name, self._topics, self.lease_s = group, name, topics, lease_s
        self._beats = itertools.count()
        self._seen: dict[str, tuple[int, float]] = {}
        """The last beat of each member, and since when it is that."""

    def share(self, db: Connection, now: float) -> Shares:
        """Stay in the group, and hold what is due: let go of more, take what nobody owns. ``now``: seconds, which never
        go back, of this member alone."""
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
        """False, and nothing changed, when the partition is another member's by now."""
        query = "UPDATE cursors SET next = ? WHERE party = ? AND place = ? AND owner = ?"
        return db.execute(query, (offset, self._group, place, self._name)).rowcount == 1

    def renew(self, db: Connection) -> None:
        """Stay in the group; nothing when expelled already."""
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
    """Keeps a member in its group while it works on a long batch; not for longer than it may go without a poll.

    Stopped with its process, by ``kill -9`` too: then the beats end.
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
        """Return when the thread has ended. A process that forks while the thread is inside SQLite gets a child that
        waits indefinitely for a lock of SQLite's own."""
        self._stopped.set()
        self.join()
