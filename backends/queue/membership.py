"""Groups without a server that knows of them: which members are dead, and how the living share a topic's partitions."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from backends.queue.partitions import POLL_GAP_MAX_S, fair_share
from coupon.domain.errors import BackendUnavailable


class Heartbeats:
    """The beats of a group's other members, as one member has seen them.

    A living member beats: it changes a number. When another member sees the same number for ``lease_s``, by its own
    timer, that member is dead. So no clock is compared with another one, nor with itself before it was set.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}
        """The last beat of each member, and when it was first seen."""

    def dead(self, beats: Mapping[str, int], now: float) -> list[str]:
        """The dead of these members. ``now``: seconds of this member's timer, which never go back."""
        seen = {member: self._seen.get(member, (beat, now)) for member, beat in beats.items()}
        self._seen = {
            member: seen[member] if seen[member][0] == beat else (beat, now) for member, beat in beats.items()
        }
        return [member for member, (_, since) in self._seen.items() if now - since >= self._lease_s]


def share_out(
    topic: str, owners: Mapping[int, str | None], member: str, living: list[str]
) -> tuple[dict[int, str | None], bool]:
    """The partitions whose owner changes, so that the member gets its fair share of the topic.

    It releases partitions beyond that, or takes free ones. The flag is False while others still own some of its share.
    """
    due = fair_share(topic, len(owners), member, living)
    mine = [partition for partition, owner in owners.items() if owner == member]
    free = [partition for partition, owner in owners.items() if owner is None][: max(0, due - len(mine))]
    changes: dict[int, str | None] = dict.fromkeys(mine[due:]) | dict.fromkeys(free, member)
    return changes, len(mine) + len(free) >= due


class Renewer(threading.Thread):
    """Keeps a member in its group while it works on a long batch, for up to the longest time between two polls.

    The beats end with the process, also after ``kill -9``. ``close`` is called at the end.
    """

    def __init__(
        self,
        every_s: float,
        renew: Callable[[], None],
        close: Callable[[], None] = lambda: None,
        join_s: float | None = None,
    ) -> None:
        super().__init__(name="queue-lease", daemon=True)
        self._every_s, self._renew, self._close, self._join_s = every_s, renew, close, join_s
        self._stopped = threading.Event()
        self._polled_at = time.monotonic()

    def polled(self) -> None:
        self._polled_at = time.monotonic()

    def run(self) -> None:
        while not self._stopped.wait(self._every_s):
            if time.monotonic() - self._polled_at < POLL_GAP_MAX_S:
                with suppress(BackendUnavailable):
                    self._renew()
        self._close()

    def stop(self) -> None:
        """Return when the thread has ended, or after ``join_s``. If the process forked while the thread is inside
        SQLite, the child would wait indefinitely for a lock of SQLite's own."""
        self._stopped.set()
        self.join(self._join_s)
