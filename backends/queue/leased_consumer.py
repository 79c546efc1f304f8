"""The consumer of a queue whose members lease their partitions from each other, and take messages by offset."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from backends.queue.membership import Renewer
from backends.queue.partitions import AssignedPartitions
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Consumer, Delivery, Position

SHARE_EVERY_S, SHARE_SOON_S = 1.0, 0.1
"""How often a member checks the group: sooner while other members still own partitions of its fair share."""


class Share(NamedTuple):
    """The partitions that a member owns: those that it goes on with, and the others with the group's next offset.

    ``complete`` is False while other members still own partitions of its fair share."""

    kept: Collection[Position]
    new: Mapping[Position, int]
    complete: bool


class Restarted(BackendUnavailable):
    """The server was started again, and may have lost what it had not made durable: offsets that it gave out, too."""


class Member(ABC):
    """A member's part that depends on where the queue stores its messages. Each method raises BackendUnavailable."""

    @abstractmethod
    def share(self, now: float, assigned: Collection[Position]) -> Share:
        """Stay in the group, expel the dead, and own a fair share. ``now``: seconds of this member's timer.

        ``assigned``: it goes on with those of them that it has owned all the time."""

    @abstractmethod
    def take(self, begins: Sequence[tuple[Position, int]], max_messages: int) -> list[Delivery]:
        """The next messages from these offsets on: a fair part of each partition, the first ones first."""

    @abstractmethod
    def wait(self, until: float) -> None:
        """Return when a message may have come since the last ``take``, or at ``until`` of ``time.monotonic``."""

    @abstractmethod
    def commit(self, positions: Mapping[Position, int]) -> None:
        """All or nothing; BackendUnavailable when another member owns one of the partitions by now."""

    @abstractmethod
    def leave(self) -> None:
        """Leave the group, and release its partitions."""


class LeasedConsumer(Consumer):
    """``renewer`` keeps the membership alive from the first poll on. ``timer`` returns seconds, and is never set."""

    def __init__(self, member: Member, renewer: Renewer, timer: Callable[[], float]) -> None:
        self._member, self._renewer, self._timer = member, renewer, timer
        self._assigned = AssignedPartitions()
        self._share_at = -math.inf
        self.closed = False

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        self._renew()
        deadline = time.monotonic() + timeout_s
        with self._restarts():
            while True:
                if self._timer() >= self._share_at:
                    self._share()
                messages = self._member.take(self._assigned.in_turn(), max_messages)
                for message in messages:
                    self._assigned.deliver(Position(message.topic, message.partition), message.offset + 1)
                if messages or time.monotonic() >= deadline:
                    return messages
                self._member.wait(min(deadline, time.monotonic() + self._share_at - self._timer()))

    def commit(self, positions: Mapping[Position, int]) -> None:
        self._assigned.check(positions)
        with self._restarts():
            self._member.commit(positions)
        self._assigned.commit(positions)

    def rewind(self) -> None:
        self._assigned.rewind()

    def pause(self, places: Iterable[str | Position]) -> None:
        self._assigned.pause(places)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._assigned.retain([])
        if self._renewer.is_alive():
            self._renewer.stop()
            with suppress(BackendUnavailable):
                self._member.leave()

    def _renew(self) -> None:
        if self.closed:
            raise BackendUnavailable("the consumer was closed")
        self._renewer.polled()
        if not self._renewer.is_alive():
            self._renewer.start()

    def _share(self) -> None:
        now = self._timer()
        share = self._member.share(now, set(self._assigned))
        self._assigned.retain(share.kept)
        for position, offset in share.new.items():
            self._assigned.assign(position, offset)
        self._share_at = now + (SHARE_EVERY_S if share.complete else SHARE_SOON_S)

    @contextmanager
    def _restarts(self) -> Iterator[None]:
        """After a restart the member begins at the group's offsets again."""
        try:
            yield
        except Restarted:
            self._assigned.retain([])
            self._share_at = -math.inf
            raise
