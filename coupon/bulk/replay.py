"""Replaying changes of several topics to a store, so that each coupon becomes what it was.

Attempts that lost are left out. Any other attempt is applied once its predecessor is the coupon's last command. Where
one topic carries all changes of a coupon, their order decides, as it did the first time. A message that is not in its
key's partition has no order: it may be a copy (decision 30).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import structlog

from coupon.applying.apply import apply_each
from coupon.applying.batch import RecordId, Task
from coupon.bulk.queue_history import ORDERED
from coupon.domain.model import ChangeCoupon, Coupon
from coupon.domain.protocol import Verdict, decide
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.retry import Retrying, at_once

Attempt = tuple[str, str, int]
"""A coupon's code, an operation, and a number."""
log = structlog.get_logger("coupon.restore")


class Item(NamedTuple):
    """A command with its record id and its message's key. ``numbered``: its message has a number, which those of early
    versions have not."""

    command: ChangeCoupon
    record_id: RecordId
    key: str
    numbered: bool

    @property
    def attempt(self) -> Attempt:
        return self.command.code, self.command.operation, self.command.number

    @property
    def builds_on(self) -> Attempt:
        return self.command.code, self.command.previous, self.command.previous_number


def item_of(task: Task, command: ChangeCoupon) -> Item:
    return Item(command, task.record_id, task.delivery.key, b'"number":' in task.delivery.value)


class Replay:
    """Holds changes that arrive before their predecessor: in practice as many as the topics are apart in time."""

    def __init__(self, queue: Queue, store: Store, losers: Collection[Attempt], patiently: Retrying = at_once) -> None:
        self._queue, self._store, self._losers, self._patiently = queue, store, losers, patiently
        self._held: dict[str, list[Item]] = {}
        self.verdicts: Counter[Verdict] = Counter()
        self.strays = 0
        """Commands whose coupon does not exist, or cannot be read."""

    @property
    def held(self) -> Collection[str]:
        """The codes of the coupons of held changes."""
        return self._held.keys()

    def take(self, items: Sequence[Item]) -> None:
        """Apply the changes that are next, and hold the rest. ``items`` are in the order of the topics."""
        codes = set()
        for item in items:
            if item.attempt not in self._losers:
                self._held.setdefault(item.command.code, []).append(item)
                codes.add(item.command.code)
        turn = [item for code in codes for item in self._held.pop(code)]
        while turn:
            turn = self._settle(turn, may_wait=True)

    def take_what_is_built_on(self, waiting: Iterable[Item]) -> None:
        """Take the predecessors of held changes out of ``waiting``, which no worker has committed. They were applied:
        a change that builds on them was committed."""
        uncommitted = {item.attempt: item for item in waiting if item.command.code in self._held}
        predecessors: dict[Attempt, Item] = {}
        for items in self._held.values():
            for follower in items:
                predecessor = uncommitted.get(follower.builds_on)
                while predecessor and predecessor.attempt not in predecessors:
                    predecessors[predecessor.attempt] = predecessor
                    predecessor = uncommitted.get(predecessor.builds_on)
        self.take(list(predecessors.values()))

    def give_up(self) -> None:
        """Reject the held changes by number: at the end of all topics their predecessors are lost."""
        rest = [item for items in self._held.values() for item in items]
        self._held.clear()
        self._settle(sorted(rest, key=lambda item: item.command.number), may_wait=False)

    def left(self) -> list[Item]:
        """The held changes."""
        return [item for items in self._held.values() for item in items]

    def _settle(self, items: list[Item], *, may_wait: bool) -> list[Item]:
        """Decide on the changes in this order, and hold the deferred ones. Returns those of them whose coupon was
        changed meanwhile: they are not held, but decided again."""

        def decide_one(index: int, coupon: Coupon) -> tuple[Verdict, Coupon]:
            item = items[index]
            decided = decide if item.numbered else _settle_by_version
            verdict, after = decided(coupon, item.command, wait=may_wait)
            if verdict is Verdict.DEFERRED and self._is_ordered(item):
                return decided(coupon, item.command, wait=False)
            return verdict, after

        codes = [item.command.code for item in items]
        verdicts, _, unreadable = self._patiently(lambda: apply_each(self._store, codes, decide_one))
        got_on = {code for code, verdict in zip(codes, verdicts, strict=True) if verdict is Verdict.APPLIED}
        again = []
        for item, verdict in zip(items, verdicts, strict=True):
            if verdict is None:
                self.strays += 1
                reason = unreadable.get(item.command.code, "there is no such coupon")
                log.warning("left over", record_id=item.record_id, code=item.command.code, reason=reason)
            elif verdict is not Verdict.DEFERRED:
                self.verdicts[verdict] += 1
            elif item.command.code in got_on:
                again.append(item)
            else:
                self._held.setdefault(item.command.code, []).append(item)
        return sorted(again, key=lambda item: item.command.previous_version)

    def _is_ordered(self, item: Item) -> bool:
        """Whether its predecessor would have been before it: in one topic, and in its key's partition."""
        position, _ = item.record_id
        return position.topic in ORDERED and position in self._queue.ends([position.topic], item.key)


def _settle_by_version(coupon: Coupon, command: ChangeCoupon, *, wait: bool) -> tuple[Verdict, Coupon]:
    """As ``decide``, for a command without a number: its versions alone decide."""
    if coupon.entry(command.operation) is None and coupon.version - command.previous_version > len(coupon.history):
        return Verdict.DUPLICATE, coupon
    verdict, after = decide(coupon._replace(settled=0), command, wait=wait)
    if verdict in (Verdict.DUPLICATE, Verdict.DEFERRED):
        return verdict, coupon
    return verdict, after._replace(settled=max(coupon.settled, after.settled))
