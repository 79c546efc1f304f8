"""Accepting the commands of several requests at once: read → decide → bind → reserve → publish → confirm.

Requests that come while others are being accepted wait together, and then each step is one call of a backend for all of
them (decision 27). A group takes what can go on at once. A request is accepted alone when it has to wait or is refused,
when its coupon is another one's of the group, and when a backend fails before the publish. After a publish that failed,
all are accepted alone for a while, so that a partition without a leader fails nobody else's command twice.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

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
from coupon.ports.group_commit import NotServed

BEGIN_S, TIMEOUT_S = 0.25, 30.0
"""So long a request waits until its group begins, and until it ends: each call of a backend has a time-out of its
own."""
APART_MS = 10_000
"""So long after a failed publish no groups are made."""
log = structlog.get_logger("coupon.grouped")


class Accepted(NamedTuple):
    """``command`` is None when it was accepted before, or without the cache: its outcome is known, or the worker's.
    ``before`` is the coupon as the store had it, where the command was built on that."""

    ref: ChangeRef
    command: ChangeCoupon | None = None
    before: Coupon | None = None


class Attempt:
    """One request on its way. ``bound`` is the binding of its key, once there is one. It reserves nothing after the
    ``deadline``. At the end either ``accepted`` or ``error`` is set, or none of them: then nothing was published."""

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


class Group(Protocol):
    """What ``GroupCommit`` does with the ``serve`` that it was made with."""

    def do(self, work: Attempt, deadline: float, begin_by: float | None = None) -> None: ...


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
        make_group: Callable[[Callable[[Sequence[Attempt], float], None]], Group],
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
        reserved = [each for each in zip(attempts, reservations, strict=True) if each[1] is not None]
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
                attempt.error = BackendUnavailable(
                    "the queue has the command, but its reservation was lost meanwhile"
                )

    def _serve(self, group: Sequence[Attempt], _deadline: float) -> None:
        attempts = {attempt.request.code: attempt for attempt in reversed(group)}
        try:
            snapshots = self._reservations.read_many(list(attempts))
            decided = [attempt for code, attempt in attempts.items() if self._is_decided(attempt, snapshots.get(code))]
            self.settle(self._bound(decided))
        except (BackendError, CacheAway) as error:
            log.warning("each is accepted alone", error=str(error), commands=len(group))

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
        keyed = [attempt for attempt in attempts if attempt.request.caller.idempotency_key is not None]
        keys = [(*attempt.request.caller, attempt.request.operation) for attempt in keyed]
        for attempt, binding in zip(keyed, self._keys.bind_new(keys), strict=True):
            attempt.bound = binding
        return [attempt for attempt in attempts if attempt.bound or attempt.request.caller.idempotency_key is None]
