"""Accepting a command: validate → reserve → publish → confirm. The web side; it makes the protocol fast."""

import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import structlog

from coupon import creation
from coupon.clock import Clock, day_of, now_ms
from coupon.codes import Mint
from coupon.model import Attempt, Command, Coupon, CreateCoupons, Day, Kind, Reason, Refused, transition
from coupon.operations import ChangeAddress, CreationAddress, Operations
from coupon.ports.backend import BackendError
from coupon.ports.queue import Message
from coupon.reservations import Busy, Reservations, Sleep, Snapshot
from coupon.settings import Settings
from coupon.topics import LAYOUTS
from coupon.wire import encode_command
from coupon.wiring import Backends

ATTEMPTS = 20
"""How often a request may lose the race for a reservation before it is told to try again."""
TOGETHER_MS = 20
"""Creations of so many milliseconds go to the same partition, and so to Kafka in one batch: their order is nobody's
business. The chunks of one creation do not, so that several workers share them."""
log = structlog.get_logger("coupon.service")


class IdempotencyKeyReused(Exception):
    """The key was used before, for another request."""


class Caller(NamedTuple):
    """Who asks, and the ``Idempotency-Key`` of the request when there is one."""

    name: str
    idempotency_key: str | None = None


class Given(NamedTuple):
    """Coupons whose codes are given: up to ``model.CHUNK`` with the same days."""

    codes: tuple[str, ...]
    valid_from: Day
    expire_at: Day


class CommandService:
    """Takes commands. Thread-safe.

    Every method raises BackendUnavailable when the command could not be taken (or nobody knows: the same
    ``Idempotency-Key`` is safe to send again), and nothing is left behind that would hinder the next one.
    """

    def __init__(
        self, backends: Backends, settings: Settings, clock: Clock = now_ms, sleep: Sleep = time.sleep
    ) -> None:
        self._queue, self._store = backends.queue, backends.store
        self._topics = LAYOUTS[settings.topics]
        self._timezone = settings.timezone
        self._clock = clock
        self.mint = Mint(settings.secret)
        self.operations = Operations(self.mint, backends.store)
        self._reservations = Reservations(
            backends.cache,
            backends.store,
            ttl_s=settings.cache_ttl_s,
            provisional_ttl_s=settings.reservation_ttl_s,
            wait_ms=settings.reservation_wait_ms,
            sleep=sleep,
        )

    def today(self) -> Day:
        return day_of(self._clock(), self._timezone)

    def change(self, kind: Kind, code: str, user_id: str | None, caller: Caller) -> ChangeAddress:
        """Accept an issue, use, cancel or cancel-use. Raises Refused, IdempotencyKeyReused, Busy."""
        operation = self.mint.operation(caller.name, caller.idempotency_key)
        for _ in range(ATTEMPTS):
            snapshot = self._reservations.read(code)
            if snapshot is None:
                raise Refused(Reason.NOT_FOUND)
            coupon = snapshot.coupon
            if caller.idempotency_key is not None and coupon.entry(operation) is not None:
                return _accepted_before(coupon, operation, kind, user_id)
            at = self._clock()
            command = Command(
                kind=kind,
                operation=operation,
                code=code,
                previous=coupon.last_operation,
                previous_version=coupon.version,
                previous_at=coupon.history[-1].at,
                accepted_at=at,
                day=day_of(at, self._timezone),
                user_id=user_id,
                actor=caller.name,
                reserved=True,
            )
            try:
                after = transition(coupon, command)
            except Refused as refused:
                if self._reservations.is_behind(snapshot):
                    continue
                raise Refused(refused.reason, coupon) from refused
            if self._publish(snapshot, after, command):
                log.info("accepted", operation=operation, kind=kind, code=code)
                return ChangeAddress(command.attempt, code)
        raise Busy(code)

    def create(self, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> CreationAddress:
        """Accept a creation. Raises IdempotencyKeyReused."""
        operation = self.mint.operation(caller.name, caller.idempotency_key)
        whole = CreateCoupons(
            operation=operation,
            amount=amount,
            first=0,
            size=amount,
            codes=(),
            mint=self.mint.fingerprint,
            valid_from=valid_from,
            expire_at=expire_at,
            accepted_at=self._clock(),
            actor=caller.name,
        )
        retried = caller.idempotency_key is not None and self._was_begun(whole)
        spans = creation.missing(operation, amount, self.mint, self._store) if retried else creation.spans(amount)
        self._queue.publish(
            [self._creation_message(whole._replace(first=span.first, size=span.size)) for span in spans]
        )
        log.info("accepted", operation=operation, kind=Kind.CREATE, amount=amount)
        return CreationAddress(operation, amount)

    def create_given(self, operation: str, chunks: Sequence[Given], actor: str) -> None:
        """Accept the creation of coupons with these very codes (an import), a message a chunk. Existing coupons are
        left as they are. A chunk's last code is its marker: it is stored after the others. The same operation is safe
        to send again."""
        amount, first, messages = sum(len(chunk.codes) for chunk in chunks), 0, []
        for codes, valid_from, expire_at in chunks:
            command = CreateCoupons(
                operation=operation,
                amount=amount,
                first=first,
                size=len(codes),
                codes=codes,
                mint=self.mint.fingerprint,
                valid_from=valid_from,
                expire_at=expire_at,
                accepted_at=self._clock(),
                actor=actor,
            )
            messages.append(self._creation_message(command))
            first += len(codes)
        self._queue.publish(messages)

    def codes(self, address: CreationAddress, first: int, limit: int) -> list[str]:
        """Up to ``limit`` of a creation's codes from index ``first`` on."""
        return list(islice(self.mint.codes(address.operation, first, max(address.amount - first, 0)), limit))

    def _publish(self, snapshot: Snapshot, after: Coupon, command: Command) -> bool:
        """Reserve and publish; False when somebody else reserved first."""
        reservation = self._reservations.reserve(snapshot, after)
        if reservation is None:
            return False
        try:
            told = command if reservation.held else command._replace(reserved=False)
            self._queue.publish([Message(self._topics[command.kind], command.code, encode_command(told))])
        except BackendError:
            self._reservations.drop(reservation)
            raise
        self._reservations.confirm(reservation)
        return True

    def _creation_message(self, chunk: CreateCoupons) -> Message:
        key = f"{chunk.accepted_at // TOGETHER_MS}/{chunk.first}"
        return Message(self._topics[Kind.CREATE], key, encode_command(chunk))

    def _was_begun(self, whole: CreateCoupons) -> bool:
        """True when the store knows the operation: its first chunk was carried out (in part)."""
        first = next(self.mint.codes(whole.operation, 0, 1))
        last = creation.Span(0, whole.amount).marker(whole.operation, self.mint)
        known = self._store.get_many([first, last])
        request = (whole.amount, whole.valid_from, whole.expire_at)
        if any((coupon.batch, coupon.valid_from, coupon.expire_at) != request for coupon in known.values()):
            raise IdempotencyKeyReused
        return bool(known)


def _accepted_before(coupon: Coupon, operation: str, kind: Kind, user_id: str | None) -> ChangeAddress:
    """The address of the first attempt, which was accepted."""
    place = [entry.operation for entry in coupon.history].index(operation)
    entry, previous = coupon.history[place], coupon.history[max(place - 1, 0)]
    if (entry.kind, entry.user_id) != (kind, user_id):
        raise IdempotencyKeyReused
    version = coupon.version - len(coupon.history) + place
    return ChangeAddress(Attempt(operation, previous.operation, version, previous.at, entry.at), coupon.code)
