"""Accepting the commands of several requests at once: read → decide → bind → reserve → publish → confirm.

Requests that come while others are being accepted wait together. Then each step is one call of a backend for all of
them (decision 27). A group takes only what can go on at once. These requests are accepted alone:

- one that has to wait, is refused, or has a key that was bound before;
- one whose coupon is that of an earlier request of the group;
- all of a group when a backend fails before the publish.

After a publish that failed, all are accepted alone for a while. So a partition without a leader fails few commands of
others.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from coupon.acceptance.idempotency import Binding, IdempotencyKeys
from coupon.acceptance.operations import ChangeRef
from coupon.acceptance.requests import ChangeRequest, accepted_before
from coupon.acceptance.reservations import Reservations, Snapshot, Step
from coupon.domain.clock import Clock
from coupon.domain.errors import (
    BackendError,
    BackendRejected,
    BackendUnavailable,
    CacheAway,
    IdempotencyKeyReused,
    Refused,
)
from coupon.domain.model import ChangeCoupon, Coupon
from coupon.ports.group_commit import MakeGroup, NotServed

BEGIN_S, TIMEOUT_S = 0.25, 30.0
"""So long a request waits until its group begins, and until it ends: each call of a backend has a time-out of its
own."""
APART_MS, APART_BRIEFLY_MS = 10_000, 1_000
"""No groups are made for so long after a failed publish, and after another failure."""
log = structlog.get_logger("coupon.grouped")


class Accepted(NamedTuple):
    """``command`` is None when it was accepted before, or without the cache: its outcome is known, or the worker's.
    ``before`` is the coupon as the store had it, where the command was built on that."""

    ref: ChangeRef
    command: ChangeCoupon | None = None
    before: Coupon | None = None


class Attempt:
    """One request on its way. ``bound`` is the binding of its key, once there is one. It reserves nothing after the
    ``deadline``. At the end ``accepted`` or ``error`` is set; if none is, nothing was published."""

    __slots__ = ("accepted", "bound", "command", "deadline", "error", "request", "step")

    def __init__(self, request: ChangeRequest, deadline: int) -> None:
        self.request, self.deadline = request, deadline
        self.bound: Binding | None = None
        self.accepted: Accepted | None = None
        self.error: BackendError | None = None
        self.step: Step
        self.command: ChangeCoupon

    def decided(self, snapshot: Snapshot, command: ChangeCoupon, after: Coupon) -> None:
        self.step, self.command = Step(snapshot, after), command

    def result(self) -> Accepted | None:
        """Raises the error. None when nothing was published."""
        if self.error is not None:
            raise type(self.error)(str(self.error)) from self.error
        return self.accepted


class GroupedCommands:
    """Thread-safe. ``decide`` returns the command of a request on a snapshot, and the coupon after it, or raises
    Refused."""

    def __init__(
        self,
        reservations: Reservations,
        keys: IdempotencyKeys,
        decide: Callable[[ChangeRequest, Snapshot], tuple[ChangeCoupon, Coupon]],
        publish: Callable[..., None],
        timer: Clock,
        make_group: MakeGroup,
    ) -> None:
        self._reservations, self._keys, self._decide, self._publish = reservations, keys, decide, publish
        self._timer, self._group = timer, make_group(self._serve)
        self._apart_until = timer()

    def accept(self, attempt: Attempt) -> Accepted | None:
        """Accept it in a group. None when it has to be accepted alone; raises BackendError after a failed publish."""
        if self._timer() < self._apart_until:
            return None
        now = time.monotonic()
        try:
            self._group.do(attempt, now + TIMEOUT_S, now + BEGIN_S)
        except NotServed:
            return None
        except TimeoutError as error:
            raise BackendUnavailable("the command is being accepted, and nobody knows whether it was") from error
        return attempt.result()

    def settle(self, attempts: Sequence[Attempt]) -> None:
        """Reserve, publish and confirm what was decided. Raises CacheAway before the publish.

        After a publish without acknowledgement the reservations stay, and a retry goes on with them."""
        attempts = [attempt for attempt in attempts if self._timer() < attempt.deadline]
        reservations = self._reservations.reserve([attempt.step for attempt in attempts]) if attempts else []
        reserved = [
            (attempt, reservation)
            for attempt, reservation in zip(attempts, reservations, strict=True)
            if reservation is not None
        ]
        if not reserved:
            return
        try:
            self._publish(*(attempt.command for attempt, _ in reserved))
        except BackendError as error:
            self._apart_until = self._timer() + APART_MS
            for attempt, reservation in reserved:
                attempt.error = error
                if isinstance(error, BackendRejected):
                    self._reservations.give_back(reservation)
            return
        confirmed = self._reservations.confirm([reservation for _, reservation in reserved])
        for (attempt, _), is_confirmed in zip(reserved, confirmed, strict=True):
            if is_confirmed:
                snapshot, command = attempt.step.snapshot, attempt.command
                ref = ChangeRef(command.operation, command.number, command.code)
                attempt.accepted = Accepted(ref, command, snapshot.coupon if snapshot.fresh else None)
            else:
                attempt.error = BackendUnavailable("the queue has the command, but its reservation was lost meanwhile")

    def _serve(self, group: Sequence[Attempt], _deadline: float) -> None:
        attempts = {attempt.request.code: attempt for attempt in reversed(group)}  # the earlier one wins
        try:
            snapshots = self._reservations.read_many(list(attempts))
            decided = [attempt for code, attempt in attempts.items() if self._is_decided(attempt, snapshots.get(code))]
            self.settle(self._bound(decided))
        except (BackendError, CacheAway) as error:
            self._apart_until = self._timer() + APART_BRIEFLY_MS
            log.warning("no groups for a moment", error=str(error), commands=len(group))

    def _is_decided(self, attempt: Attempt, snapshot: Snapshot | None) -> bool:
        if snapshot is None:
            return False
        try:
            if known := accepted_before(attempt.request, snapshot.coupon):
                attempt.accepted = Accepted(known)
                return False
            attempt.decided(snapshot, *self._decide(attempt.request, snapshot))
        except (Refused, IdempotencyKeyReused):
            return False
        return True

    def _bound(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Those that have no key, or one that belongs to them alone."""
        keyed = [
            (attempt, caller.name, caller.idempotency_key)
            for attempt in attempts
            if (caller := attempt.request.caller).idempotency_key is not None
        ]
        if not keyed:
            return list(attempts)
        bindings = self._keys.bind_new([(name, key, attempt.request.operation) for attempt, name, key in keyed])
        for (attempt, _, _), binding in zip(keyed, bindings, strict=True):
            attempt.bound = binding
        return [attempt for attempt in attempts if attempt.bound or attempt.request.caller.idempotency_key is None]
