"""Messages that are forged: which of them are dead-lettered.

Whoever writes to a topic can write millions of them. All are skipped. Some are stored to be looked at, and the log has
a line a minute. The others can still be read at their offsets, as long as the queue keeps them.
"""

from collections.abc import Sequence

import structlog

from coupon.applying import dead_letters
from coupon.applying.batch import ForgedMessage, Task, task
from coupon.domain.clock import Clock
from coupon.ports.queue import Delivery

KEPT, PERIOD_MS = 100, 3_600_000
"""A worker dead-letters so many in an hour."""
LOG_MS = 60_000
log = structlog.get_logger("coupon.worker")


class Forgeries:
    """Those that one worker met."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._logged_at = -PERIOD_MS
        self._kept = self._skipped = 0

    def some(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks without the forged ones that are not to be dead-lettered."""
        forged = [each for each in tasks if isinstance(each.payload, ForgedMessage)]
        if not forged:
            return list(tasks)
        now = self._clock()
        if not 0 <= now - self._since < PERIOD_MS:
            self._since, self._kept = now, 0
        kept = forged[: KEPT - self._kept]
        self._kept += len(kept)
        self._log(now, forged, len(kept))
        left_out = {each.record_id for each in forged[len(kept) :]}
        return [each for each in tasks if each.record_id not in left_out]

    def pass_over(self, delivery: Delivery, reason: str) -> None:
        """A message of the topic of dead letters is none."""
        if delivery.forged:
            self._log(self._clock(), [task(delivery)], 0)
        else:
            dead_letters.log_stranger(delivery, reason)

    def _log(self, now: int, forged: Sequence[Task], kept: int) -> None:
        """At most once a minute, with the first one as an example."""
        self._skipped += len(forged) - kept
        if 0 <= now - self._logged_at < LOG_MS:
            return
        first = forged[0]
        reason = first.payload.reason if isinstance(first.payload, ForgedMessage) else ""
        log.error("forged messages", record_id=first.record_id, reason=reason, not_kept=self._skipped)
        self._logged_at, self._skipped = now, 0
