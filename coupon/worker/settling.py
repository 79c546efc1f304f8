"""Settling commands: apply them, reject them, keep them waiting, or find that they never can be applied."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from coupon.applying.apply import Applied, apply_changes
from coupon.applying.batch import Place, Task
from coupon.applying.lost_attempts import losers, write_down
from coupon.applying.safe_reads import read
from coupon.domain.model import Coupon
from coupon.domain.protocol import Verdict
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.dead_letter_policy import DeadLetterPolicy, Failure
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons

NO_COUPON = Failure("the store has no such coupon")
FOLLOWS = Failure("what it builds on was dead-lettered", is_poison=False)
LATE = Failure("what it builds on did not come in time", is_poison=False)
log = structlog.get_logger("coupon.worker")


class _Hope(NamedTuple):
    """Whether the coupon, or the predecessor, of a command may still come. ``is_late``: the predecessor may, but has
    been waited for long enough. A rejection would settle its number too, and have it refused when it comes."""

    coupon: bool
    predecessor: bool
    is_late: bool = False


class Settling:
    """Of one worker. ``ordered``: a coupon's commands arrive in their order, so none waits for a predecessor."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        invalidation: CacheInvalidator,
        waiting: DeferredCommands,
        horizons: Horizons,
        dead_letter_policy: DeadLetterPolicy,
        patience_ms: int,
        *,
        ordered: bool,
    ) -> None:
        self._store, self._queue, self._invalidation, self._waiting = store, queue, invalidation, waiting
        self._horizons, self._dead_letter_policy = horizons, dead_letter_policy
        self._patience_ms, self._ordered = patience_ms, ordered

    def settle(self, tasks: list[Task], letters: dict[Place, Failure]) -> Mapping[str, Coupon]:
        """The coupons as they are now. What arrives behind others that wait for its coupon waits behind them, for
        ``DeferredCommands.due``. Raises BackendUnavailable: then some may be settled, and are not known to be."""
        turn = []
        for task in tasks:
            if not self._waiting.holds(task) and self._waiting.is_waited_for(task.command.code):
                self._waiting.hold(task)
            else:
                turn.append(task)
        return self._settle(turn, letters) if turn else {}

    def ripe(self) -> list[Task]:
        """What waits and may be settled now, of the coupons that are due: one read for all of it."""
        if self._horizons.is_time_to_begin():
            self._horizons.begin(self._waiting.fresh(), self._waiting.places())
        due = self._waiting.due()
        if not due:
            return []
        self._horizons.look([tasks[0].place for tasks in due.values()])
        stored, unreadable = read(self._store, due)
        ripe = [
            task
            for code, tasks in due.items()
            for task in (tasks if code in unreadable else self._ripe(tasks, stored.get(code)))
        ]
        self._waiting.looked_at(dict.fromkeys(due, 0) | {code: coupon.revision for code, coupon in stored.items()})
        return ripe

    def _ripe(self, tasks: Sequence[Task], coupon: Coupon | None) -> list[Task]:
        """Whose turn it may be, if those before it are applied; and the first, if there is no hope for it."""
        if coupon is None:
            return list(tasks) if not self._hope(tasks[0]).coupon else []
        ripe, version, is_blocked = [], coupon.version, False
        for task in tasks:
            command = task.command
            if command.previous_version <= version or command.previous_number <= coupon.settled:
                version = max(version, command.previous_version + 1)
            elif is_blocked or self._hope(task).predecessor:
                is_blocked = True
                continue
            ripe.append(task)
        return ripe

    def _settle(self, tasks: list[Task], letters: dict[Place, Failure]) -> Mapping[str, Coupon]:
        hopes = self._hopes(tasks)  # before the store is asked: so it knows of all that came until then
        self._dead_letter_policy.look_again()  # what was settled by then is in the store, or has its letter
        followers: dict[int, str] = {}

        def may_wait(number: int) -> bool:
            command = tasks[number].command
            if not hopes[number].predecessor and (
                hopes[number].is_late
                or command.previous in followers.values()
                or self._dead_letter_policy.was_dead_lettered(command.previous)
            ):
                followers[number] = command.operation
            return hopes[number].predecessor or number in followers

        commands = [task.command for task in tasks]
        settled = apply_changes(self._store, commands, may_wait)
        if not self._ordered:
            write_down(self._queue, losers(commands, settled))
        codes_to_invalidate, still = set(), []
        for number, (task, verdict) in enumerate(zip(tasks, settled.verdicts, strict=True)):
            command = task.command
            if number in followers and verdict is Verdict.DEFERRED:
                letters[task.place] = LATE if hopes[number].is_late else FOLLOWS
            elif command.code in settled.unreadable:
                letters[task.place] = Failure(settled.unreadable[command.code], is_poison=False)
            elif verdict is None and not hopes[number].coupon:
                letters[task.place] = NO_COUPON
            elif verdict is None or verdict is Verdict.DEFERRED:
                still.append(task)
                continue
            self._waiting.release(task)
            self._horizons.forget(task.place)
            if verdict is not Verdict.APPLIED or not command.reserved:
                # It lost, or may have before we died; or the cache does not know of it.
                codes_to_invalidate.add(command.code)
            if verdict is Verdict.REJECTED:
                log.warning("rejected", operation=command.operation, kind=command.kind, code=command.code)
        self._keep_waiting(tasks, still, settled)
        self._tell(tasks, settled)
        self._invalidation.invalidate(sorted(codes_to_invalidate))
        return settled.coupons

    def _hopes(self, tasks: list[Task]) -> list[_Hope]:
        """Behind one that may wait, or that is not among the tasks and waits, all may."""
        self._horizons.look([task.place for task in tasks])
        places = {task.place for task in tasks}
        hopes: list[_Hope] = []
        of_coupon: dict[str, _Hope] = {}
        for task in tasks:
            before = of_coupon.get(task.command.code) or self._hope_before(task, places)
            own = self._hope(task)
            hope = _Hope(before.coupon or own.coupon, before.predecessor or own.predecessor, own.is_late)
            of_coupon[task.command.code] = hope
            hopes.append(hope)
        return hopes

    def _hope_before(self, task: Task, places: set[Place]) -> _Hope:
        first = self._waiting.first(task.command.code)
        is_behind = first is not None and first not in places
        return _Hope(is_behind, is_behind)

    def _hope(self, task: Task) -> _Hope:
        is_patient = self._horizons.stood_still_ms(task.place) < self._patience_ms
        may_come = not self._ordered and not self._horizons.is_settled(task.place)
        return _Hope(
            coupon=is_patient and not self._horizons.is_delivered(task.place),
            predecessor=is_patient and may_come,
            is_late=not is_patient and may_come,
        )

    def _keep_waiting(self, tasks: list[Task], still: list[Task], settled: Applied) -> None:
        for task in still:
            self._waiting.hold(task)
        revisions = {task.command.code: 0 for task in tasks}
        revisions |= {code: coupon.revision for code, coupon in settled.coupons.items()}
        self._waiting.looked_at(revisions)

    def _tell(self, tasks: list[Task], settled: Applied) -> None:
        """Nothing, when all that was found is that they still wait."""
        verdicts = settled.verdicts
        applied = [
            t.command.operation for t, verdict in zip(tasks, verdicts, strict=True) if verdict is Verdict.APPLIED
        ]
        if applied or Verdict.DUPLICATE in verdicts:
            log.info("applied", operations=applied, seen=verdicts.count(Verdict.DUPLICATE), waiting=len(self._waiting))
