"""Applying once more what was applied before, from several streams, to the same end.

An attempt that is known to have lost is left out. Of the others each is applied when what it builds on is last. Where
one topic carries all changes of a coupon, their order decides, as it did the first time.
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
from coupon.ports.store import Store
from coupon.runtime.retry import Retrying, at_once

Attempt = tuple[str, str, int]
"""A coupon's code, an operation, and a number."""
log = structlog.get_logger("coupon.restore")


class Item(NamedTuple):
    """A command, and where it is. ``numbered``: it was written with its number."""

    command: ChangeCoupon
    record_id: RecordId
    numbered: bool

    @property
    def attempt(self) -> Attempt:
        return self.command.code, self.command.operation, self.command.number

    @property
    def builds_on(self) -> Attempt:
        return self.command.code, self.command.previous, self.command.previous_number

    @property
    def is_ordered(self) -> bool:
        return self.record_id[0].topic in ORDERED


def item_of(task: Task, command: ChangeCoupon) -> Item:
    return Item(command, task.record_id, b'"number":' in task.delivery.value)


class Replay:
    """Holds what comes before its predecessor: in practice as much as the streams are apart in time."""

    def __init__(self, store: Store, losers: Collection[Attempt], patiently: Retrying = at_once) -> None:
        self._store, self._losers, self._patiently = store, losers, patiently
        self._held: dict[str, list[Item]] = {}
        self.verdicts: Counter[Verdict] = Counter()
        self.strays = 0
        """Commands whose coupon is not there."""

    @property
    def held(self) -> Collection[str]:
        """The codes of coupons of which something is held."""
        return self._held.keys()

    def take(self, items: Sequence[Item]) -> None:
        """The next of all streams: apply what can be, and hold the others."""
        codes = set()
        for item in items:
            if item.attempt not in self._losers:
                self._held.setdefault(item.command.code, []).append(item)
                codes.add(item.command.code)
        turn = [item for code in codes for item in self._held.pop(code)]
        while turn:
            turn = self._settle(turn, may_wait=True)

    def take_what_is_built_on(self, waiting: Iterable[Item]) -> None:
        """Of what no worker has committed, take that on which something held was built: it was applied, too."""
        known = {item.attempt: item for item in waiting if item.command.code in self._held}
        wanted: dict[Attempt, Item] = {}
        for items in self._held.values():
            for follower in items:
                found = known.get(follower.builds_on)
                while found and found.attempt not in wanted:
                    wanted[found.attempt] = found
                    found = known.get(found.builds_on)
        self.take(list(wanted.values()))

    def give_up(self) -> None:
        """All streams have ended: what is still held was built on what was lost, and is rejected in the order of
        numbers."""
        rest = [item for items in self._held.values() for item in items]
        self._held.clear()
        self._settle(sorted(rest, key=lambda item: item.command.number), may_wait=False)

    def left(self) -> list[Item]:
        """What is still held."""
        return [item for items in self._held.values() for item in items]

    def _settle(self, items: list[Item], *, may_wait: bool) -> list[Item]:
        """Settle them in this order, and hold those that are early. Returns those of them whose coupon got on
        meanwhile, which are not held."""

        def decide_one(place: int, coupon: Coupon) -> tuple[Verdict, Coupon]:
            item = items[place]
            decided = decide if item.numbered else _settle_by_version
            return decided(coupon, item.command, wait=may_wait and not item.is_ordered)

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


def _settle_by_version(coupon: Coupon, command: ChangeCoupon, *, wait: bool) -> tuple[Verdict, Coupon]:
    """As ``settle`` was when commands had no numbers: versions alone decided."""
    if coupon.entry(command.operation) is None and coupon.version - command.previous_version > len(coupon.history):
        return Verdict.DUPLICATE, coupon
    verdict, after = decide(coupon._replace(settled=0), command, wait=wait)
    if verdict in (Verdict.DUPLICATE, Verdict.DEFERRED):
        return verdict, coupon
    return verdict, after._replace(settled=max(coupon.settled, after.settled))
