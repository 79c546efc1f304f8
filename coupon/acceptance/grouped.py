"""Accepting the commands of several requests at once: read → decide → bind → reserve → publish → confirm.

Requests that come while others are being accepted wait together. Then each step is one call of a backend for all of
them (decision 27). A group takes only what can go on at once. These requests are accepted alone:

- one that has to wait, is refused, or has a key that was bound before;
- one whose coupon or key is that of an earlier request of the group;
- all of a group when a backend fails before the publish.

After a publish that failed, all requests of the process are accepted alone for a while. So a partition without a leader
fails few commands of others.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import structlog

from coupon.acceptance.idempotency import Binding, IdempotencyKeys
from coupon.acceptance.operations import ChangeRef
from coupon.acceptance.requests import Caller, ChangeRequest, accepted_before
from coupon.acceptance.reservations import Reservations, Snapshot, Step
from coupon.domain.clock import Clock
from coupon.domain.errors import (
    BackendError,
    BackendRejected,
    BackendUnavailable,
    CacheAway,
)
from coupon.domain.model import ChangeCoupon, Coupon
from coupon.ports.group_commit import MakeGroup, NotServed, Patience

BEGIN_S, TIMEOUT_S = 0.25, 30.0
"""A request waits for so long until its group begins, and until it ends. The second one is never reached as long as
each call of a backend ends in its own time-out."""
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
        patience: Patience = nullcontext,
    ) -> None:
        self._reservations, self._keys, self._decide, self._publish = reservations, keys, decide, publish
        self._timer, self._group, self._patience = timer, make_group(self._serve), patience
        self._apart_until = timer()

    def accept(self, attempt: Attempt, alone: Callable[[Attempt], Accepted]) -> Accepted:
        """Accept it in a group, or ``alone``. Raises BackendError after a failed publish.

        Who has waited for ``BEGIN_S`` goes on waiting in the context of ``patience``: a backend hangs."""
        if self._timer() < self._apart_until:
            return alone(attempt)
        now = time.monotonic()
        try:
            self._group.do(attempt, now + TIMEOUT_S, now + BEGIN_S, self._patience)
        except NotServed:
            with self._patience():
                return alone(attempt)
        except TimeoutError as error:
            raise BackendUnavailable("the command is being accepted, and nobody knows whether it was") from error
        return attempt.result() or alone(attempt)

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
            self._apart(APART_MS, error)
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
        attempts: dict[str, Attempt] = {}
        for attempt in group:
            attempts.setdefault(attempt.request.code, attempt)
        try:
            snapshots = self._reservations.read_many(list(attempts))
            decided = [attempt for code, attempt in attempts.items() if self._is_decided(attempt, snapshots.get(code))]
            self.settle(self._bound(decided))
        except (BackendError, CacheAway) as error:
            self._apart(APART_BRIEFLY_MS, error)

    def _apart(self, for_ms: int, error: Exception) -> None:
        """Let requests be accepted alone for so long."""
        now = self._timer()
        if now >= self._apart_until:
            log.warning("no groups for a moment", error=str(error), seconds=for_ms // 1000)
        self._apart_until = max(self._apart_until, now + for_ms)

    def _is_decided(self, attempt: Attempt, snapshot: Snapshot | None) -> bool:
        if snapshot is None:
            return False
        try:
            if known := accepted_before(attempt.request, snapshot.coupon):
                attempt.accepted = Accepted(known)
                return False
            attempt.decided(snapshot, *self._decide(attempt.request, snapshot))
        except Exception:  # Refused, or what nobody expects: it raises again where the request is accepted alone
            return False
        return True

    def _bound(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Those without a key, and those whose key is bound to them now. Of two with one key, the earlier one."""
        keyed: dict[Caller, Attempt] = {}
        for attempt in attempts:
            if attempt.request.caller.idempotency_key is not None:
                keyed.setdefault(attempt.request.caller, attempt)
        if not keyed:
            return list(attempts)
        keys = [(name, key or "", attempt.request.operation) for (name, key), attempt in keyed.items()]
        for attempt, binding in zip(keyed.values(), self._keys.bind_new(keys), strict=True):
            attempt.bound = binding
        return [attempt for attempt in attempts if attempt.bound or attempt.request.caller.idempotency_key is None]
