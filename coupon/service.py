"""Accepting a command: validate → reserve → publish → confirm. The web side; it makes the protocol fast."""

import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import structlog

from coupon import creation
from coupon.clock import Clock, day_of, monotonic_ms, now_ms
from coupon.codes import Mint
from coupon.creation_limits import CreationLimits, TooManyCreations
from coupon.creation_progress import CreationProgress
from coupon.fences import Fences
from coupon.idempotency import Binding, IdempotencyKeyReused, IdempotencyKeys
from coupon.model import Command, Coupon, CreateCoupons, Day, Kind, Reason, Refused, transition
from coupon.operations import ChangeAddress, CreationAddress, Operations
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.queue import Message
from coupon.reservations import Busy, CacheAway, Reservations, Sleep, Snapshot
from coupon.settings import Settings
from coupon.topics import LAYOUTS
from coupon.unreserved import Unreserved
from coupon.wire import encode_command
from coupon.wiring import Backends

ATTEMPTS = 20
"""How often a request may lose the race for a reservation before it is told to try again."""
REQUEST_MAX_MS = 10_000
"""A request that was held up for longer reserves nothing any more: its caller has asked again."""
TOGETHER_MS = 20
"""Creations of so many milliseconds go to the same partition, and so to Kafka in one batch: their order is nobody's
business. The chunks of one creation do not, so that several workers share them."""
log = structlog.get_logger("coupon.service")


class Caller(NamedTuple):
    """Who asks, and the ``Idempotency-Key`` of the request when there is one."""

    name: str
    idempotency_key: str | None = None


class Wish(NamedTuple):
    """A change that a caller wants. The operation is derived from all of it."""

    kind: Kind
    code: str
    user_id: str | None
    caller: Caller
    operation: str


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
        self,
        backends: Backends,
        settings: Settings,
        clock: Clock = now_ms,
        sleep: Sleep = time.sleep,
        timer: Clock = monotonic_ms,
    ) -> None:
        self._queue, self._store = backends.queue, backends.store
        self._topics = LAYOUTS[settings.topics]
        self._timezone = settings.timezone
        self._clock, self._timer = clock, timer
        self.mint = Mint(settings.secret)
        self._creations = CreationProgress(self.mint, backends.store, backends.cache)
        self.operations = Operations(self.mint, backends.store, self._creations)
        self._keys = IdempotencyKeys(backends.cache, self.mint, settings.key_hours)
        fences = Fences(backends.queue, settings.topics, timer)
        self._limits = CreationLimits(backends.queue, backends.cache, self.mint, settings, timer)
        self._reservations = Reservations(
            backends.cache, backends.store, fences, self.mint, settings, sleep=sleep, timer=timer
        )
        self._unreserved = Unreserved(backends.store, fences, self._send, sleep, timer)

    def today(self) -> Day:
        return day_of(self._clock(), self._timezone)

    def change(self, kind: Kind, code: str, user_id: str | None, caller: Caller) -> ChangeAddress:
        """Accept an issue, use, cancel or cancel-use. Raises Refused, IdempotencyKeyReused, Busy."""
        words = f"{kind}\0{code}\0{user_id or ''}"
        wish = Wish(kind, code, user_id, caller, self.mint.operation(caller.name, caller.idempotency_key, words))
        try:
            address = self._change(wish)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))
            address = self._unreserved.change(code, lambda coupon: self._decide_alone(wish, coupon))
        log.info("accepted", operation=wish.operation, kind=kind, code=code)
        return address

    def _change(self, wish: Wish) -> ChangeAddress:
        deadline, binding = self._timer() + REQUEST_MAX_MS, None
        for _ in range(ATTEMPTS):
            snapshot = self._reservations.read(wish.code, wish.operation)
            try:
                if snapshot is None:
                    raise Refused(Reason.NOT_FOUND)
                if known := _accepted_before(wish, snapshot):
                    return known
                command, after = self._decide(wish, snapshot)
            except Refused as refused:
                if snapshot is not None and self._reservations.is_behind(snapshot):
                    continue
                self._unbind(wish, binding)
                raise Refused(refused.reason, snapshot and snapshot.coupon) from refused
            binding = self._bind(wish)
            if self._timer() < deadline and self._publish(snapshot, after, command):
                return ChangeAddress(wish.operation, command.number, wish.code)
        raise Busy(wish.code)

    def _decide(self, wish: Wish, snapshot: Snapshot) -> tuple[Command, Coupon]:
        """The command and the coupon after it; raises Refused."""
        if snapshot.own:
            return self._same_again(snapshot.coupon), snapshot.coupon
        command = self._command(wish, snapshot.coupon, fresh=snapshot.fresh, reserved=True)
        return command, transition(snapshot.coupon, command)

    def _decide_alone(self, wish: Wish, coupon: Coupon) -> Command | ChangeAddress:
        if known := _accepted_before(wish, Snapshot(coupon, None)):
            return known
        command = self._command(wish, coupon, fresh=False, reserved=False)
        try:
            transition(coupon, command)
        except Refused as refused:
            raise Refused(refused.reason, coupon) from refused
        return command

    def _command(self, wish: Wish, coupon: Coupon, *, fresh: bool, reserved: bool) -> Command:
        at = self._clock()
        return Command(
            kind=wish.kind,
            operation=wish.operation,
            code=wish.code,
            previous=coupon.last_operation,
            previous_version=coupon.version,
            accepted_at=at,
            day=day_of(at, self._timezone),
            user_id=wish.user_id,
            actor=wish.caller.name,
            reserved=reserved,
            number=coupon.next_number(fresh=fresh),
            previous_number=coupon.number_at(coupon.version),
        )

    def _same_again(self, after: Coupon) -> Command:
        """The command that made the coupon so in the cache, without the queue's acknowledgement: as it was sent."""
        made, before = after.history[-1], after.history[-2]
        return Command(
            kind=made.kind,
            operation=made.operation,
            code=after.code,
            previous=before.operation,
            previous_version=after.version - 1,
            accepted_at=made.at,
            day=day_of(made.at, self._timezone),
            user_id=made.user_id,
            actor=made.actor,
            reserved=True,
            number=made.number,
            previous_number=after.number_at(after.version - 1),
        )

    def _bind(self, wish: Wish) -> Binding | None:
        """Raises IdempotencyKeyReused."""
        name, key = wish.caller
        if key is None:
            return None
        try:
            return self._keys.bind(name, key, wish.operation)
        except BackendError as error:
            raise CacheAway(str(error)) from error

    def _unbind(self, wish: Wish, binding: Binding | None) -> None:
        """A request that was refused binds no key. Raises IdempotencyKeyReused when the key is bound to another one."""
        name, key = wish.caller
        if key is None:
            return
        try:
            if binding is None:
                self._keys.check(name, key, wish.operation)
            else:
                self._keys.release(binding)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def create(self, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> CreationAddress:
        """Accept a creation. Raises IdempotencyKeyReused, TooManyCreations."""
        words = f"{Kind.CREATE}\0{amount}\0{valid_from}\0{expire_at}"
        operation = self.mint.operation(caller.name, caller.idempotency_key, words)
        binding = self._bind_creation(caller, operation)
        if binding is None or not binding.accepted:
            try:
                self._create(operation, amount, valid_from, expire_at, caller)
            except TooManyCreations:
                self._release(binding)
                raise
        if binding is not None and not binding.accepted:
            self._note_accepted(binding)
        log.info("accepted", operation=operation, kind=Kind.CREATE, amount=amount)
        return CreationAddress(operation, amount)

    def _create(self, operation: str, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> None:
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
        spans = self._creations.missing(operation, amount) if retried else creation.spans(amount)
        messages = [self._creation_message(whole._replace(first=span.first, size=span.size)) for span in spans]
        if retried:  # it was accepted before, and is not too many now
            self._queue.publish(messages)
            return
        with self._limits.admitted(operation, amount, caller.name):
            self._queue.publish(messages)

    def _bind_creation(self, caller: Caller, operation: str) -> Binding | None:
        """None without a key, or without a cache: another creation with the key is another operation all the same."""
        if caller.idempotency_key is None:
            return None
        try:
            return self._keys.bind(caller.name, caller.idempotency_key, operation)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
            return None

    def _release(self, binding: Binding | None) -> None:
        """A creation that was refused binds no key."""
        if binding is None:
            return
        try:
            self._keys.release(binding)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def _note_accepted(self, binding: Binding) -> None:
        try:
            self._keys.accepted(binding)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def create_given(self, operation: str, chunks: Sequence[Given], actor: str) -> None:
        """Accept the creation of coupons with these very codes (an import), a message a chunk. Existing coupons are
        left as they are. A chunk's last code is its marker: it is stored after the others. The same operation is safe
        to send again. Raises TooManyCreations: then wait for the workers."""
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
        with self._limits.admitted(operation, amount):
            self._queue.publish(messages)

    def codes(self, address: CreationAddress, first: int, limit: int) -> list[str]:
        """Up to ``limit`` of a creation's codes from index ``first`` on."""
        return list(islice(self.mint.codes(address.operation, first, max(address.amount - first, 0)), limit))

    def _publish(self, snapshot: Snapshot, after: Coupon, command: Command) -> bool:
        """Reserve and publish; False when the snapshot is no longer true. After a publish without acknowledgement the
        reservation stays, and a retry goes on with it."""
        reservation = self._reservations.reserve(snapshot, after)
        if reservation is None:
            return False
        try:
            self._send(command)
        except BackendRejected:
            self._reservations.give_back(reservation)
            raise
        if not self._reservations.confirm(reservation):
            raise BackendUnavailable("the queue has the command, but its reservation was lost meanwhile")
        return True

    def _send(self, command: Command) -> None:
        self._queue.publish([Message(self._topics[command.kind], command.code, encode_command(command))])

    def _creation_message(self, chunk: CreateCoupons) -> Message:
        key = f"{chunk.accepted_at // TOGETHER_MS}/{chunk.first}"
        return Message(self._topics[Kind.CREATE], key, encode_command(chunk))

    def _was_begun(self, whole: CreateCoupons) -> bool:
        """True when the store knows the operation: its first or last chunk was carried out (in part)."""
        first = next(self.mint.codes(whole.operation, 0, 1))
        last = creation.Span(0, whole.amount).marker(whole.operation, self.mint)
        return bool(self._store.get_many([first, last]))


def _accepted_before(wish: Wish, snapshot: Snapshot) -> ChangeAddress | None:
    """The address of the attempt that was accepted before with the same key; raises IdempotencyKeyReused when that was
    another request."""
    coupon = snapshot.coupon
    known = None if wish.caller.idempotency_key is None else coupon.same_key(wish.operation)
    if known is None or snapshot.own:
        return None
    if (known.kind, known.user_id) != (wish.kind, wish.user_id):
        raise IdempotencyKeyReused
    version = coupon.version - len(coupon.history) + 1 + coupon.history.index(known)
    return ChangeAddress(known.operation, coupon.number_at(version), coupon.code)
