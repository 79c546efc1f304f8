"""One member of a group of a SQLite queue: it delivers, commits and prunes."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from sqlite3 import Connection

from backends.queue.partitions import POLL_BYTES_MAX, AssignedPartitions
from backends.queue.sqlite_group import Membership, Renewer
from backends.queue.sqlite_time import FileTime, file_time
from backends.sqlite import SqliteFile
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Consumer, Delivery, Position

LOOK_MIN_S, LOOK_MAX_S = 0.002, 0.02
"""The pause between two looks of a waiting poll grows from the first to the second."""
SHARE_EVERY_S, SHARE_SOON_S = 1.0, 0.1
"""How often a member checks the group: sooner while other members still own partitions of its fair share."""
PRUNE_MAX = 1_000
"""The most messages of a partition that a commit deletes."""


class SqliteConsumer(Consumer):
    """``renewer`` keeps the membership alive from the first poll on."""

    def __init__(
        self,
        file: SqliteFile,
        membership: Membership,
        renewer: Renewer,
        retention_s: float,
        timer: Callable[[], float],
    ) -> None:
        self._file, self._membership, self._renewer = file, membership, renewer
        self._retention_s, self._timer = retention_s, timer
        self._time = FileTime(timer)
        self._assigned = AssignedPartitions()
        self._places: dict[Position, int] = {}
        self._paused: frozenset[str | Position] = frozenset()
        self._turn = 0
        self._share_at = -math.inf
        self.closed = False

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        self._renew()
        deadline = time.monotonic() + timeout_s
        while True:
            if self._timer() >= self._share_at:
                self._share()
            with self._file.read() as db:
                version = _version(db)
                messages = self._take(db, max_messages)
            if messages or time.monotonic() >= deadline:
                return messages
            self._wait_for_a_change(version, min(deadline, time.monotonic() + self._share_at - self._timer()))

    def commit(self, positions: Mapping[Position, int]) -> None:
        self._assigned.check(positions)
        with self._file.write() as db:
            for position, offset in positions.items():
                place = self._places[position]
                if not self._membership.commit(db, place, offset):
                    raise BackendUnavailable(f"{position.topic}/{position.partition} is another member's by now")
                _prune(db, place, file_time(db) - self._retention_s)
        self._assigned.commit(positions)

    def rewind(self) -> None:
        self._assigned.rewind()

    def pause(self, places: Iterable[str | Position]) -> None:
        self._paused = frozenset(places)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._assigned.retain([])
        if self._renewer.is_alive():
            self._renewer.stop()
            with suppress(BackendUnavailable), self._file.write() as db:
                self._membership.leave(db)

    def _renew(self) -> None:
        if self.closed:
            raise BackendUnavailable("the consumer was closed")
        self._renewer.polled()
        if not self._renewer.is_alive():
            self._renewer.start()

    def _share(self) -> None:
        now = self._timer()
        with self._file.write() as db:
            self._time.advance(db)
            shares = self._membership.share(db, now)
        owned = {place.position: place for place in shares.owned}
        self._assigned.retain(shares.kept & owned.keys())
        for position, place in owned.items():
            if position not in self._assigned:
                self._assigned.assign(position, place.next)
        self._places = {position: place.id for position, place in owned.items()}
        self._share_at = now + (SHARE_EVERY_S if shares.complete else SHARE_SOON_S)

    def _take(self, db: Connection, max_messages: int) -> list[Delivery]:
        """The next messages, in turn from all partitions."""
        positions = [position for position in self._places if self._paused.isdisjoint((position, position.topic))]
        self._turn += 1
        found: list[Delivery] = []
        size = 0
        for index in range(len(positions)):
            position = positions[(index + self._turn) % len(positions)]
            fair = -(-(max_messages - len(found)) // (len(positions) - index))
            begin = self._assigned.next(position)
            for offset, key, value in page(db, self._places[position], begin, fair, POLL_BYTES_MAX - size):
                found.append(Delivery(position.topic, position.partition, offset, key, value))
                size += len(value)
                self._assigned.deliver(position, offset + 1)
        return found

    def _wait_for_a_change(self, version: int, until: float) -> None:
        """Wait until another connection has written, or until ``until``. The check reads shared memory, and is
        cheap."""
        nap_s = LOOK_MIN_S
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(nap_s, left_s))
            nap_s = min(nap_s * 1.5, LOOK_MAX_S)
            with self._file.read() as db:
                if _version(db) != version:
                    return


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
