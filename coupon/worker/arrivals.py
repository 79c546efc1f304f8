"""Whether a command's coupon, or its predecessor, may still arrive. Until it cannot, the command is deferred."""

from collections.abc import Collection
from typing import NamedTuple

from coupon.applying.batch import RecordId, Task
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons
from coupon.worker.places import Places


class Arrival(NamedTuple):
    """Whether a command's ``coupon`` or ``predecessor`` may still arrive.

    ``is_late``: the predecessor may, but the command has waited for the longest time. It is not rejected: that would
    settle the predecessor's number, too. ``in_order``: it may not, because the topic keeps the order."""

    coupon: bool
    predecessor: bool
    is_late: bool = False
    in_order: bool = False


class Arrivals:
    """The arrivals of one worker. Where a coupon's commands arrive in order, none waits for a predecessor."""

    def __init__(self, horizons: Horizons, deferred: DeferredCommands, wait_max_ms: int, places: Places) -> None:
        self._horizons, self._deferred = horizons, deferred
        self._wait_max_ms, self._places = wait_max_ms, places

    def of_all(self, tasks: Collection[Task]) -> list[Arrival]:
        """The arrival for each command of a part, in order. A command comes after those before it in the part. Raises
        BackendUnavailable."""
        record_ids = {task.record_id for task in tasks}
        self._horizons.refresh(record_ids)
        arrivals: list[Arrival] = []
        last_of: dict[str, Arrival] = {}
        for task in tasks:
            before = last_of.get(task.command.code) or self._before(task, record_ids)
            own = self.of(task)
            arrival = own._replace(
                coupon=before.coupon or own.coupon, predecessor=before.predecessor or own.predecessor
            )
            last_of[task.command.code] = arrival
            arrivals.append(arrival)
        return arrivals

    def of(self, task: Task) -> Arrival:
        """The arrival for a single command."""
        may_wait = self._horizons.stalled_ms(task.record_id) < self._wait_max_ms
        in_order = self._places.keeps_order(task.record_id)
        is_open = not in_order and not self._horizons.is_settled(task.record_id)
        return Arrival(
            coupon=may_wait and not self._horizons.is_delivered(task.record_id),
            predecessor=may_wait and is_open,
            is_late=not may_wait and is_open,
            in_order=in_order,
        )

    def _before(self, task: Task, record_ids: Collection[RecordId]) -> Arrival:
        """The arrival for a command of a part with these ``record_ids``. Behind a deferred command that is not among
        them, both may arrive."""
        first = self._deferred.first_of(task.command.code)
        is_behind = first is not None and first not in record_ids
        return Arrival(is_behind, is_behind)
