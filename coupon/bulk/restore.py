"""Restoring every coupon from the queue alone, into a store that is empty or a backup.

One process does it while no other works (decision 21). Commands that the store has already are recognised, so a restore
that was stopped may be run again.

1. All creations, also those that no worker has applied. Their order matters for rival imports only.
2. The changes that workers have committed, in the order of their acceptance, without the lost attempts. A change that
   was not committed is left to the workers, with two exceptions. The predecessors of committed changes are applied,
   and changes that are older than a lost attempt on their coupon.
3. The lost attempts, with their reasons.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import structlog

from coupon.applying.apply import apply_creations, apply_each
from coupon.applying.batch import BadMessage, OtherVersion, RecordId, Task
from coupon.applying.lost_attempts import browse_losers
from coupon.bulk.queue_history import Recorded
from coupon.bulk.replay import Attempt, Item, Replay, item_of
from coupon.domain.chunks import is_of_this_secret
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, Loser, Rejection
from coupon.domain.protocol import Verdict, record
from coupon.domain.topics import CREATION, REJECTIONS
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.retry import Retrying, at_once

AT_ONCE = 1_000
"""Messages, or coupons of creations, that are applied together."""
Thing = TypeVar("Thing")
log = structlog.get_logger("coupon.restore")


@dataclass
class Counts:
    """``coupons`` counts those of the creations, ``recognised`` the commands that the store had settled already.
    ``left`` counts messages that could not be applied: each is logged. ``forged`` counts those that no key of ours has
    signed, which are logged by partition. ``waiting`` counts changes that no worker has committed."""

    messages: int = 0
    coupons: int = 0
    applied: int = 0
    rejected: int = 0
    recognised: int = 0
    left: int = 0
    forged: int = 0
    waiting: int = 0


class Restore:
    """``run`` once."""

    def __init__(
        self,
        queue: Queue,
        store: Store,
        code_deriver: CodeDeriver,
        recorded: Recorded,
        on_progress: Callable[[int], None] = lambda _: None,
        patiently: Retrying = at_once,
    ) -> None:
        self._queue, self._store, self._code_deriver = queue, store, code_deriver
        self._recorded, self._on_progress, self._patiently = recorded, on_progress, patiently
        self._counts = Counts(waiting=recorded.waiting)
        self._aliens: set[str] = set()

    def run(self) -> Counts:
        """Restore all coupons. Raises BackendUnavailable: then run another Restore."""
        for chunks in self._parts(self._creations()):
            self._counts.coupons += sum(chunk.size for chunk in chunks)
            self._patiently(lambda: apply_creations(self._store, chunks, self._code_deriver))  # noqa: B023 - called at once
        self._replay()
        for losers in _batches(self._losers()):
            self._record(losers)
        self._report_forged()
        return self._counts

    def _replay(self) -> None:
        losers: set[Attempt] = set()
        highest: dict[str, int] = {}
        for loser in self._losers():
            losers.add((loser.code, loser.operation, loser.number))
            highest[loser.code] = max(loser.number, highest.get(loser.code, 0))
        replay = Replay(self._queue, self._store, losers, self._patiently)
        for items in _batches(self._changes(self._recorded.committed_changes())):
            replay.take(items)
        if highest:  # a change with a lower number than a lost attempt was applied before it, or never will be
            waiting = _items(self._recorded.waiting_changes())
            for items in _batches(item for item in waiting if item.command.number <= highest.get(item.command.code, 0)):
                replay.take(items)
        if replay.held:
            replay.take_what_is_built_on(_items(self._recorded.waiting_changes()))
        if self._recorded.trimmed():
            for item in replay.left():
                self._leave(item.record_id, "what it builds on is neither in the store nor in the queue")
        else:
            replay.give_up()
        self._counts.applied += replay.verdicts[Verdict.APPLIED]
        self._counts.rejected += replay.verdicts[Verdict.REJECTED]
        self._counts.recognised += replay.verdicts[Verdict.DUPLICATE]
        self._counts.left += replay.strays

    def _creations(self) -> Iterator[CreateCoupons]:
        for task in self._counted(self._recorded.creations()):
            chunk = task.payload
            if isinstance(chunk, OtherVersion | BadMessage) and task.position.topic == CREATION:
                self._leave(task.record_id, chunk.reason)
            elif isinstance(chunk, CreateCoupons):
                if is_of_this_secret(chunk, self._code_deriver):
                    yield chunk
                else:
                    self._leave_alien(task, chunk)

    def _changes(self, tasks: Iterator[Task]) -> Iterator[Item]:
        for task in self._counted(tasks):
            if isinstance(task.payload, OtherVersion | BadMessage):
                self._leave(task.record_id, task.payload.reason)
            elif isinstance(task.payload, ChangeCoupon):
                yield item_of(task, task.payload)

    def _losers(self) -> Iterable[Loser]:
        return browse_losers(self._queue) if self._recorded.has(REJECTIONS) else ()

    def _record(self, losers: list[Loser]) -> None:
        """Record the rejections that the store does not have. A lost attempt without a reason gets none, but its number
        is settled."""

        def decide(place: int, coupon: Coupon) -> tuple[Verdict, Coupon]:
            _, operation, version, at, reason, number = losers[place]
            if reason is None and number > coupon.settled:
                return Verdict.DUPLICATE, coupon._replace(settled=number)
            if reason is None or coupon.rejection(operation, number):
                return Verdict.DUPLICATE, coupon
            after = record(coupon, Rejection(operation, version, reason, at, number))
            return (Verdict.DUPLICATE, coupon) if after == coupon else (Verdict.REJECTED, after)

        codes = [loser.code for loser in losers]
        verdicts = self._patiently(lambda: apply_each(self._store, codes, decide)).verdicts
        self._counts.rejected += verdicts.count(Verdict.REJECTED)

    def _parts(self, chunks: Iterator[CreateCoupons]) -> Iterator[list[CreateCoupons]]:
        part: list[CreateCoupons] = []
        for chunk in chunks:
            part.append(chunk)
            if sum(chunk.size for chunk in part) >= AT_ONCE:
                yield part
                part = []
        if part:
            yield part

    def _counted(self, tasks: Iterator[Task]) -> Iterator[Task]:
        for task in tasks:
            self._counts.messages += 1
            if self._counts.messages % AT_ONCE == 0:
                self._on_progress(self._counts.messages)
            yield task

    def _leave(self, record_id: RecordId, reason: str) -> None:
        self._counts.left += 1
        log.warning("left over", record_id=record_id, reason=reason)

    def _report_forged(self) -> None:
        for position, forged in self._recorded.forged.items():
            self._counts.forged += forged.number
            log.warning("left out", partition=position, forged=forged.number, first=forged.first, last=forged.last)

    def _leave_alien(self, task: Task, chunk: CreateCoupons) -> None:
        self._counts.left += 1
        if chunk.operation not in self._aliens:  # a large creation is many messages
            self._aliens.add(chunk.operation)
            reason = f"accepted with another COUPON_SECRET, whose fingerprint is {chunk.secret_fingerprint:.20}"
            log.warning("left over", record_id=task.record_id, operation=chunk.operation, reason=reason)


def _items(tasks: Iterator[Task]) -> Iterator[Item]:
    return (item_of(task, task.payload) for task in tasks if isinstance(task.payload, ChangeCoupon))


def _batches(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    iterator = iter(things)
    while batch := list(islice(iterator, AT_ONCE)):
        yield batch
