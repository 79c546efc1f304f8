"""The handler of changes: each is applied, rejected, deferred, or can never be applied."""

from collections.abc import Sequence

import structlog

from coupon.applying.apply import Applied, apply_changes
from coupon.applying.batch import Task
from coupon.applying.lost_attempts import is_applied, losers, publish_losers
from coupon.domain.model import ChangeCoupon
from coupon.domain.protocol import Verdict
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.logs import trace, traces
from coupon.worker.arrivals import Arrival, Arrivals
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.checkpoint import Checkpoint
from coupon.worker.dead_letter_policy import DeadLetterPolicy, Failure, Failures
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons
from coupon.worker.places import Places
from coupon.worker.tally import Tally

NO_COUPON = Failure("the store has no such coupon")
FOLLOWS = Failure("what it builds on was dead-lettered", is_poison=False)
LATE = Failure("what it builds on did not come in time", is_poison=False)
log = structlog.get_logger("coupon.worker")


class _Followers:
    """The commands of a part whose predecessor is late, or was dead-lettered. They are dead-lettered, not rejected: a
    replay applies them."""

    def __init__(
        self, tasks: Sequence[Task], arrivals: Sequence[Arrival], places: Places, policy: DeadLetterPolicy
    ) -> None:
        self._tasks, self._arrivals, self._places, self._policy = tasks, arrivals, places, policy
        self._operations: dict[int, str] = {}

    def may_wait(self, index: int) -> bool:
        """Whether the command at that index must not be rejected for a missing predecessor.

        A command that is late, or follows a dead letter, is noted. Its verdict is DEFERRED, and ``failure`` has it
        dead-lettered. One that was taken to be in order, and is not in its key's partition, has to wait from now on.
        """
        if self._arrivals[index].predecessor:
            return True
        command = self._tasks[index].command
        if self._arrivals[index].is_late or self._follows(command):
            self._operations[index] = command.operation
        return index in self._operations or (
            self._arrivals[index].in_order and self._places.is_elsewhere(self._tasks[index])
        )

    def failure(self, index: int) -> Failure | None:
        """Why the command at that index is dead-lettered; None when it is not."""
        if index not in self._operations:
            return None
        return LATE if self._arrivals[index].is_late else FOLLOWS

    def _follows(self, command: ChangeCoupon) -> bool:
        return command.previous in self._operations.values() or self._policy.was_dead_lettered(command.previous)


class ChangeHandler:
    """The handler of one worker."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        invalidator: CacheInvalidator,
        deferred: DeferredCommands,
        horizons: Horizons,
        arrivals: Arrivals,
        places: Places,
        policy: DeadLetterPolicy,
        checkpoint: Checkpoint,
        tally: Tally,
    ) -> None:
        self._store, self._queue, self._invalidator, self._deferred = store, queue, invalidator, deferred
        self._horizons, self._arrivals, self._places = horizons, arrivals, places
        self._policy, self._checkpoint, self._tally = policy, checkpoint, tally

    def handle(self, tasks: Sequence[Task]) -> Failures:
        """Apply, reject or defer the commands; return the failures. A command behind a deferred one of its coupon is
        deferred, too. Raises BackendUnavailable: then some may be applied."""
        turn = []
        for task in tasks:
            if task not in self._deferred and self._deferred.has_any_of(task.command.code):
                self._deferred.defer(task)
            else:
                turn.append(task)
        failures = self._apply(turn) if turn else {}
        if not all(task.command.reserved for task in tasks):
            self._checkpoint.hurry()  # a process that accepted it without the cache responds after the commit
        return failures

    def _apply(self, tasks: Sequence[Task]) -> Failures:
        arrivals = self._arrivals.of_all(tasks)  # before the read, which then has all that arrived until now
        self._policy.mark_stale()  # a command that was handled until now is in the store, or a dead letter
        followers = _Followers(tasks, arrivals, self._places, self._policy)
        commands = [task.command for task in tasks]
        applied = apply_changes(self._store, commands, followers.may_wait)
        lost = losers(commands, applied)
        publish_losers(self._queue, lost)
        failures = _failures(tasks, applied, arrivals, followers)
        self._defer_or_release(tasks, applied, failures)
        self._tally.changes(commands, applied, lost)
        self._log(commands, applied)
        self._invalidator.invalidate(self._codes_to_invalidate(tasks, applied))
        self._checkpoint.stored(applied.coupons)
        return failures

    def _defer_or_release(self, tasks: Sequence[Task], applied: Applied, failures: Failures) -> None:
        deferred = []
        for task, verdict in zip(tasks, applied.verdicts, strict=True):
            if verdict in (None, Verdict.DEFERRED) and task.record_id not in failures:
                deferred.append(task)
            else:
                self._deferred.release(task)
                self._horizons.forget(task.record_id)
        for task in deferred:
            self._deferred.defer(task)
        revisions = {task.command.code: 0 for task in tasks}
        revisions |= {code: coupon.revision for code, coupon in applied.coupons.items()}
        self._deferred.reschedule(revisions)

    def _codes_to_invalidate(self, tasks: Sequence[Task], applied: Applied) -> list[str]:
        """The codes of commands that were not applied as this very attempt, or were accepted without the cache."""
        codes = set[str]()
        for task, verdict in zip(tasks, applied.verdicts, strict=True):
            command = task.command
            was_applied = verdict is Verdict.APPLIED or is_applied(command, applied.coupons.get(command.code))
            if not (was_applied and command.reserved) and task not in self._deferred:
                codes.add(command.code)
        return sorted(codes)

    def _log(self, commands: Sequence[ChangeCoupon], applied: Applied) -> None:
        """Log the verdicts; nothing when all of the commands are still deferred."""
        verdicts, operations, traceparents = applied.verdicts, [], []
        for command, verdict in zip(commands, verdicts, strict=True):
            if verdict is Verdict.APPLIED:
                operations.append(command.operation)
                traceparents.append(command.traceparent)
            elif verdict is Verdict.REJECTED:
                names = {"operation": command.operation, "kind": command.kind, "code": command.code}
                log.warning("rejected", **names, **trace(command.traceparent))
            elif verdict is Verdict.DUPLICATE:
                traceparents.append(command.traceparent)
        if operations or Verdict.DUPLICATE in verdicts:
            seen, waiting = verdicts.count(Verdict.DUPLICATE), len(self._deferred)
            log.info("applied", operations=operations, seen=seen, waiting=waiting, **traces(traceparents))


def _failures(tasks: Sequence[Task], applied: Applied, arrivals: Sequence[Arrival], followers: _Followers) -> Failures:
    """Why some of the commands can never be applied."""
    failures: Failures = {}
    for index, (task, verdict) in enumerate(zip(tasks, applied.verdicts, strict=True)):
        follower = followers.failure(index) if verdict is Verdict.DEFERRED else None
        if follower is not None:
            failures[task.record_id] = follower
        elif task.command.code in applied.unreadable:
            failures[task.record_id] = Failure(applied.unreadable[task.command.code], is_poison=False)
        elif verdict is None and not arrivals[index].coupon:
            failures[task.record_id] = NO_COUPON
    return failures
