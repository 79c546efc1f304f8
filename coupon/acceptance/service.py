"""Accepting a command: validate → reserve → publish → confirm. The web side; it makes the protocol fast
(decision 4)."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice

import structlog

from coupon.acceptance.awaited import AwaitedCommands
from coupon.acceptance.creation_progress import CreationProgress
from coupon.acceptance.creations import Creations, ImportChunk
from coupon.acceptance.fences import Fences
from coupon.acceptance.grouped import Accepted, Attempt, GroupedCommands
from coupon.acceptance.guesses import Guesses
from coupon.acceptance.idempotency import IdempotencyKeys
from coupon.acceptance.measuring import MeasuredCommand, count_applied
from coupon.acceptance.operations import ChangeRef, CreationRef, Operations, Outcome, Status
from coupon.acceptance.requests import Caller, ChangeRequest, accepted_before, change_request, command_of, same_again
from coupon.acceptance.reservations import Reservations, Sleep, Snapshot
from coupon.acceptance.uncached import UncachedCommands
from coupon.domain.clock import Clock, day_of, monotonic_ms, now_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CacheAway, CouponBusy, Refused
from coupon.domain.model import ChangeCoupon, Coupon, Day, Kind, Reason, transition
from coupon.domain.serialization import encode_command
from coupon.domain.topics import LAYOUTS
from coupon.ports.group_commit import ForkedGroupCommit, MakeGroup, Patience
from coupon.ports.queue import Message
from coupon.runtime.cache_entries import CacheOrAway
from coupon.runtime.logs import traceparent
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends

ATTEMPTS = 20
"""How often a request may lose the race for a reservation before it is told to try again."""
REQUEST_MAX_MS = 10_000
"""A request that has taken longer reserves nothing any more: its caller has sent it again."""
log = structlog.get_logger("coupon.service")


class CommandService:
    """Accepts commands. Thread-safe.

    Every method raises BackendUnavailable when the command was not accepted, or nobody knows whether it was. The same
    ``Idempotency-Key`` is safe to send again, and nothing is left that would hinder the next command.
    """

    def __init__(
        self,
        backends: Backends,
        settings: Settings,
        clock: Clock = now_ms,
        sleep: Sleep = time.sleep,
        timer: Clock = monotonic_ms,
        make_group: MakeGroup = ForkedGroupCommit,
        patience: Patience = nullcontext,
    ) -> None:
        """``patience`` makes the context in which a request waits whose group hangs."""
        self._queue, self._topics = backends.queue, LAYOUTS[settings.topics]
        self._timezone, self._clock, self._timer = settings.timezone, clock, timer
        self.code_deriver = CodeDeriver(settings.secret)
        progress = CreationProgress(self.code_deriver, backends.store, backends.cache)
        self.operations = Operations(self.code_deriver, backends.store, progress)
        cache = CacheOrAway(backends.cache)
        self.guesses = Guesses(cache, self.code_deriver, settings.guesses_per_minute, clock)
        self._keys = IdempotencyKeys(cache, self.code_deriver, settings.key_hours)
        self._creations = Creations(backends, settings, self.code_deriver, self._keys, progress, clock, timer)
        fences = Fences(backends.queue, settings.topics, timer)
        self._reservations = Reservations(
            cache, backends.store, fences, self.code_deriver, settings, sleep=sleep, timer=timer
        )
        self._grouped = GroupedCommands(
            self._reservations, self._keys, self._decide, self.publish, timer, make_group, patience
        )
        self._uncached = UncachedCommands(backends.store, fences, self.publish, sleep, timer)
        self._awaited = AwaitedCommands(backends.store, make_group)

    def today(self) -> Day:
        return day_of(self._clock(), self._timezone)

    def create(self, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> CreationRef:
        """As ``Creations.create``."""
        with MeasuredCommand(Kind.CREATE):
            return self._creations.create(amount, valid_from, expire_at, caller)

    def import_chunks(self, operation: str, chunks: Sequence[ImportChunk], actor: str) -> None:
        """As ``Creations.import_chunks``."""
        self._creations.import_chunks(operation, chunks, actor)

    def codes(self, address: CreationRef, first: int, limit: int) -> list[str]:
        """Up to ``limit`` of a creation's codes from index ``first`` on."""
        return list(islice(self.code_deriver.codes(address.operation, first, max(address.amount - first, 0)), limit))

    def change(self, kind: Kind, code: str, user_id: str | None, caller: Caller) -> ChangeRef:
        """Accept an issue, use, cancel or cancel-use. Raises Refused, IdempotencyKeyReused, CouponBusy."""
        return self.accept(kind, code, user_id, caller).ref

    def apply_now(self, accepted: Accepted) -> Outcome:
        """Apply an accepted command, if it is next. Else its outcome is ACCEPTED: a worker applies or rejects it."""
        ref, command, before = accepted
        coupon = command and self._awaited.apply(command, before)
        outcome = self.operations.outcome_in(coupon, ref) if coupon else Outcome(Status.ACCEPTED)
        if command and outcome.status is Status.APPLIED:
            count_applied(command, self._clock())
        return outcome

    def publish(self, *commands: ChangeCoupon) -> None:
        """Put the commands into the queue as they are; raises BackendError."""
        self._queue.publish([Message(self._topics[each.kind], each.code, encode_command(each)) for each in commands])

    def accept(self, kind: Kind, code: str, user_id: str | None, caller: Caller) -> Accepted:
        """As ``change``, with what ``apply_now`` needs."""
        with MeasuredCommand(kind):
            return self._accept(kind, code, user_id, caller)

    def _accept(self, kind: Kind, code: str, user_id: str | None, caller: Caller) -> Accepted:
        request = change_request(kind, code, user_id, caller, self.code_deriver, traceparent.get())
        attempt = Attempt(request, self._timer() + REQUEST_MAX_MS)
        try:
            accepted = self._grouped.accept(attempt, self._accept_alone)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))
            try:
                accepted = Accepted(
                    self._uncached.change(request.code, lambda coupon: self._decide_uncached(request, coupon))
                )
            except Refused:
                self._release(attempt)
                raise
        log.info("accepted", operation=request.operation, kind=request.kind, code=request.code)
        return accepted

    def _accept_alone(self, attempt: Attempt) -> Accepted:
        request = attempt.request
        for _ in range(ATTEMPTS):
            snapshot = self._reservations.read(request.code, request.operation)
            try:
                if snapshot is None:
                    raise Refused(Reason.NOT_FOUND)
                if not snapshot.own and (known := accepted_before(request, snapshot.coupon)):
                    return Accepted(known)
                attempt.decided(snapshot, *self._decide(request, snapshot))
            except Refused as refused:
                if snapshot is not None and self._reservations.is_behind(snapshot):
                    continue
                self._unbind(attempt)
                raise Refused(refused.reason, snapshot and snapshot.coupon) from refused
            self._bind(attempt)
            self._grouped.settle([attempt])
            if accepted := attempt.result():
                return accepted
        raise CouponBusy(request.code)

    def _decide(self, request: ChangeRequest, snapshot: Snapshot) -> tuple[ChangeCoupon, Coupon]:
        """The command and the coupon after it; raises Refused."""
        if snapshot.own:
            again = same_again(snapshot.coupon, self._timezone)
            return again._replace(traceparent=request.traceparent), snapshot.coupon
        coupon, at = snapshot.coupon, self._clock()
        command = command_of(request, coupon, at, self._timezone, fresh=snapshot.fresh, reserved=True)
        return command, transition(coupon, command)

    def _decide_uncached(self, request: ChangeRequest, coupon: Coupon) -> ChangeCoupon | ChangeRef:
        if known := accepted_before(request, coupon):
            return known
        command = command_of(request, coupon, self._clock(), self._timezone, fresh=False, reserved=False)
        try:
            transition(coupon, command)
        except Refused as refused:
            raise Refused(refused.reason, coupon) from refused
        return command

    def _bind(self, attempt: Attempt) -> None:
        """Raises IdempotencyKeyReused."""
        name, key = attempt.request.caller
        if key is not None and attempt.bound is None:
            attempt.bound = self._keys.bind(name, key, attempt.request.operation)

    def _unbind(self, attempt: Attempt) -> None:
        """A request that was refused binds no key. Raises IdempotencyKeyReused when the key is bound to another one."""
        name, key = attempt.request.caller
        if attempt.bound is not None or key is None:
            self._release(attempt)
            return
        try:
            self._keys.check(name, key, attempt.request.operation)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))

    def _release(self, attempt: Attempt) -> None:
        if attempt.bound is None:
            return
        try:
            self._keys.release(attempt.bound)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))
