"""How long something is waited for that may never come: by positions, not by time.

What a command needs was published before it. So when all that the command topics held at the first sight of the command
has been delivered, to this worker or to others, and the store still knows nothing of it, it does not come any more.
Where nothing moves, because a topic has no worker or two wait for each other, time decides.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coupon.applying.batch import Place
from coupon.domain.clock import Clock
from coupon.domain.topics import GROUP
from coupon.ports.queue import Position, Queue

ASK_EVERY_MS = 500
BEGIN_EVERY_MS = 100
PLACES_MAX = 100_000
"""Of so many commands the first sight is remembered beside those that wait: they may be delivered again."""


@dataclass(slots=True)
class _Horizon:
    """What is still to be delivered, how far that is (``at``), and since when it has been there."""

    left: dict[Position, int]
    at: dict[Position, int]
    since: int


class Horizons:
    """Of one worker. ``others`` tells how far other workers say that they are, beyond what they committed."""

    def __init__(
        self, queue: Queue, topics: Sequence[str], timer: Clock, others: Callable[[], Mapping[Position, int]]
    ) -> None:
        self._queue, self._topics, self._timer, self._others = queue, list(topics), timer, others
        self._delivered: dict[Position, int] = {}
        self._in_flight: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}
        self._told: Mapping[Position, int] = {}
        self._asked_at: int | None = None
        self._begun_at: int | None = None
        self._horizons: dict[Place, _Horizon] = {}

    @property
    def delivered(self) -> Mapping[Position, int]:
        """Up to where this worker has ever applied, dead-lettered or kept waiting all that was delivered to it."""
        return self._delivered

    def reach(self, position: Position, offset: int) -> None:
        """All of the partition before that offset is applied, dead-lettered or waiting."""
        self._in_flight[position] = max(offset, self._in_flight.get(position, 0))
        self._delivered[position] = max(offset, self._delivered.get(position, 0))

    def rewind(self) -> None:
        """What waited here may wait elsewhere by now."""
        self._in_flight.clear()

    def is_time_to_begin(self) -> bool:
        """Whether the queue was not asked for its ends just now. Later is as good: they are the higher."""
        return self._begun_at is None or self._timer() - self._begun_at >= BEGIN_EVERY_MS

    def begin(self, places: Collection[Place], waiting: Collection[Place]) -> None:
        """First sight of these, unless they are known. Of all that are ``waiting`` it stays known: they would wait
        indefinitely. Raises BackendUnavailable, and remembers nothing then."""
        new = [place for place in places if place not in self._horizons]
        if new:
            ends = self._queue.ends(self._topics)
            self._begun_at = self._timer()
            horizon = _Horizon(dict(ends), {}, self._timer())
            self._horizons |= dict.fromkeys(new, horizon)
            if len(self._horizons) > PLACES_MAX + len(waiting):
                self._horizons = {place: self._horizons[place] for place in waiting if place in self._horizons}

    def look(self, places: Iterable[Place]) -> None:
        """See how far all is by now. Raises BackendUnavailable."""
        horizons = {id(horizon): horizon for place in places if (horizon := self._horizons.get(place))}
        left = {position for horizon in horizons.values() for position in horizon.left}
        if not left:
            return
        now = self._timer()
        if self._asked_at is None or now - self._asked_at >= ASK_EVERY_MS:
            self._committed = self._queue.committed(left, GROUP)
            self._told = self._believed(self._others())
            self._asked_at = now
        for horizon in horizons.values():
            self._move(horizon)

    def is_delivered(self, place: Place) -> bool:
        """Whether all that was there at its first sight has been delivered to somebody: each creation of it is applied
        or dead-lettered, for they never wait."""
        return self._is_passed(place, self._reached)

    def is_settled(self, place: Place) -> bool:
        """Whether all that was there at its first sight is settled, or waits here."""
        return self._is_passed(place, lambda p: max(self._committed.get(p, 0), self._in_flight.get(p, 0)))

    def stood_still_ms(self, place: Place) -> int:
        """For how long nothing of what it waits for has moved."""
        horizon = self._horizons.get(place)
        return 0 if horizon is None else self._timer() - horizon.since

    def forget(self, place: Place) -> None:
        """It waits no longer."""
        self._horizons.pop(place, None)

    def _believed(self, told: Mapping[Position, int]) -> Mapping[Position, int]:
        """Nobody was delivered what is not there. Raises BackendUnavailable."""
        ends = self._queue.ends(self._topics) if told else {}
        return {position: offset for position, offset in told.items() if offset <= ends.get(position, 0)}

    def _is_passed(self, place: Place, reached: Callable[[Position], int]) -> bool:
        horizon = self._horizons.get(place)
        return horizon is not None and all(reached(position) >= end for position, end in horizon.left.items())

    def _move(self, horizon: _Horizon) -> None:
        for position, end in horizon.left.items():
            reached = min(end, self._reached(position))
            if reached > horizon.at.setdefault(position, reached):
                horizon.at[position], horizon.since = reached, self._timer()
        horizon.left = {p: end for p, end in horizon.left.items() if self._committed.get(p, 0) < end}

    def _reached(self, position: Position) -> int:
        return max(self._committed.get(position, 0), self._delivered.get(position, 0), self._told.get(position, 0))
