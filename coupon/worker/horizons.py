"""How long a deferred command waits for a record that may never come: by offsets, not by time.

The records that a command needs were published before it. A command's horizon is the end of the command topics when the
worker first saw it. Once everything before the horizon was delivered, to any worker, a record that the store lacks will
never come. Time decides only where no partition moves: a topic has no worker, or two commands wait for each other.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coupon.applying.batch import RecordId
from coupon.domain.clock import Clock
from coupon.domain.topics import GROUP
from coupon.ports.queue import Position, Queue

REFRESH_INTERVAL_MS = 500
START_INTERVAL_MS = 100
RECORDS_MAX = 100_000
"""The most horizons of records that are not deferred now. They are needed when such a record is delivered again."""


@dataclass(slots=True)
class _Horizon:
    """The ends that are not committed yet (``left``), the offsets that were delivered (``at``), and since when."""

    left: dict[Position, int]
    at: dict[Position, int]
    since: int


class Horizons:
    """The horizons of one worker. ``others`` returns how far other workers report deliveries, beyond their commits."""

    def __init__(
        self, queue: Queue, topics: Sequence[str], timer: Clock, others: Callable[[], Mapping[Position, int]]
    ) -> None:
        self._queue, self._topics, self._timer, self._others = queue, list(topics), timer, others
        self._delivered: dict[Position, int] = {}
        self._in_flight: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}
        self._reported: Mapping[Position, int] = {}
        self._refreshed_at: int | None = None
        self._started_at: int | None = None
        self._horizons: dict[RecordId, _Horizon] = {}

    @property
    def delivered(self) -> Mapping[Position, int]:
        """By partition, the offset before which this worker has applied, dead-lettered or deferred everything."""
        return self._delivered

    def reach(self, position: Position, offset: int) -> None:
        """Every record of the partition before that offset is applied, dead-lettered or deferred."""
        self._in_flight[position] = max(offset, self._in_flight.get(position, 0))
        self._delivered[position] = max(offset, self._delivered.get(position, 0))

    def rewind(self) -> None:
        """Forget which commands this worker has deferred: another worker may have them by now."""
        self._in_flight.clear()

    def may_start(self) -> bool:
        """Whether the pause since the last question to the queue is over. A later start gets higher ends, which is
        safe."""
        return self._started_at is None or self._timer() - self._started_at >= START_INTERVAL_MS

    def start(self, record_ids: Collection[RecordId], deferred: Collection[RecordId]) -> None:
        """Give each record that has no horizon one. The horizons of ``deferred`` records are never dropped: without
        them these would wait indefinitely. Raises BackendUnavailable, and starts none then."""
        new = [record_id for record_id in record_ids if record_id not in self._horizons]
        if new:
            ends = self._queue.ends(self._topics)
            self._started_at = self._timer()
            horizon = _Horizon(dict(ends), {}, self._timer())
            self._horizons |= dict.fromkeys(new, horizon)
            if len(self._horizons) > RECORDS_MAX + len(deferred):
                self._horizons = {key: self._horizons[key] for key in deferred if key in self._horizons}

    def refresh(self, record_ids: Iterable[RecordId]) -> None:
        """Read the commits of all workers from the queue, at most once in a while. Raises BackendUnavailable."""
        horizons = {id(horizon): horizon for key in record_ids if (horizon := self._horizons.get(key))}
        left = {position for horizon in horizons.values() for position in horizon.left}
        if not left:
            return
        now = self._timer()
        if self._refreshed_at is None or now - self._refreshed_at >= REFRESH_INTERVAL_MS:
            self._committed = self._queue.committed(left, GROUP)
            self._reported = self._credible(self._others())
            self._refreshed_at = now
        for horizon in horizons.values():
            self._move(horizon)

    def is_delivered(self, record_id: RecordId) -> bool:
        """Whether everything before the horizon was delivered to some worker. Then each creation of it is applied or
        dead-lettered: creations are never deferred."""
        return self._is_passed(record_id, self._reached)

    def is_settled(self, record_id: RecordId) -> bool:
        """Whether everything before the horizon is committed, or deferred in this worker."""
        return self._is_passed(record_id, lambda p: max(self._committed.get(p, 0), self._in_flight.get(p, 0)))

    def stalled_ms(self, record_id: RecordId) -> int:
        """How long no partition has moved towards the horizon, in milliseconds; 0 without a horizon."""
        horizon = self._horizons.get(record_id)
        return 0 if horizon is None else self._timer() - horizon.since

    def forget(self, record_id: RecordId) -> None:
        """The command is no longer deferred."""
        self._horizons.pop(record_id, None)

    def _credible(self, reported: Mapping[Position, int]) -> Mapping[Position, int]:
        """What other workers report, without offsets beyond the ends. Raises BackendUnavailable."""
        ends = self._queue.ends(self._topics) if reported else {}
        return {position: offset for position, offset in reported.items() if offset <= ends.get(position, 0)}

    def _is_passed(self, record_id: RecordId, reached: Callable[[Position], int]) -> bool:
        horizon = self._horizons.get(record_id)
        return horizon is not None and all(reached(position) >= end for position, end in horizon.left.items())

    def _move(self, horizon: _Horizon) -> None:
        for position, end in horizon.left.items():
            reached = min(end, self._reached(position))
            if reached > horizon.at.setdefault(position, reached):
                horizon.at[position], horizon.since = reached, self._timer()
        horizon.left = {p: end for p, end in horizon.left.items() if self._committed.get(p, 0) < end}

    def _reached(self, position: Position) -> int:
        return max(self._committed.get(position, 0), self._delivered.get(position, 0), self._reported.get(position, 0))
