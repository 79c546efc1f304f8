"""Deferred commands that are ready: each may be applied now, or never."""

from collections.abc import Sequence

from coupon.applying.batch import Task
from coupon.applying.safe_reads import read
from coupon.domain.model import Coupon
from coupon.ports.store import Store
from coupon.worker.arrivals import Arrivals
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons
from coupon.worker.places import Places


class ReadyCommands:
    """The ready commands of one worker."""

    def __init__(
        self, store: Store, deferred: DeferredCommands, horizons: Horizons, arrivals: Arrivals, places: Places
    ) -> None:
        self._store, self._deferred, self._horizons = store, deferred, horizons
        self._arrivals, self._places = arrivals, places

    def poll(self) -> list[Task]:
        """The ready commands of the coupons that are due, with one read for all of them. Raises BackendUnavailable."""
        if self._horizons.may_start():
            self._horizons.start(self._deferred.take_new(), self._deferred.record_ids())
        due = self._deferred.due()
        if not due:
            return []
        self._horizons.refresh([tasks[0].record_id for tasks in due.values()])
        stored, unreadable = read(self._store, due)
        ready = [
            task
            for code, tasks in due.items()
            for task in (tasks if code in unreadable else self._ready(tasks, stored.get(code)))
        ]
        self._deferred.reschedule(dict.fromkeys(due, 0) | {code: coupon.revision for code, coupon in stored.items()})
        return ready

    def _ready(self, tasks: Sequence[Task], coupon: Coupon | None) -> list[Task]:
        """A coupon's commands that are next, one after another, and those whose predecessor cannot arrive any more.

        Of the latter, those that keep no order come last: their predecessor may be among the others."""
        if coupon is None:
            return list(tasks) if not self._arrivals.of(tasks[0]).coupon else []
        ready, last, version, is_blocked = list[Task](), list[Task](), coupon.version, False
        for task in tasks:
            command = task.command
            if command.previous_version <= version or command.previous_number <= coupon.settled:
                version = max(version, command.previous_version + 1)
            elif is_blocked or self._arrivals.of(task).predecessor:
                is_blocked = True
                continue
            elif self._deferred.is_ordered and not self._places.keeps_order(task.record_id):
                last.append(task)
                continue
            ready.append(task)
        return ready + last
