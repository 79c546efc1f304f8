"""The coupon as it will be after everything accepted so far: read from the cache, and reserved there.

A reservation is provisional until the queue's acknowledgement, then confirmed. Nobody builds on a provisional one, so a
publish that failed takes nobody else's command with it. Every step replaces exactly the entry that it was decided on.

Where the cache has no entry, the coupon in the store may lack commands that were accepted. It is believed when the
cache has lost nothing (``cache_losses``). Otherwise a claim becomes the entry, with a fence at the queue's end. The
store is believed once the workers have passed that fence.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import structlog

from coupon.acceptance.cache_losses import Known, Losses
from coupon.acceptance.fences import Fences
from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendRejected, CacheAway, CouponBusy, Malformed, Unreadable
from coupon.domain.lineage import extends
from coupon.domain.model import Coupon, begins_a_chain
from coupon.domain.serialization import Fence
from coupon.ports.cache import Cached, Write
from coupon.ports.store import Store
from coupon.runtime.cache_entries import UNFENCED, CacheOrAway, Claim, Confirmed, Entries, Provisional, cache_key
from coupon.runtime.settings import Settings

Sleep = Callable[[float], None]
SEEN_MAX = 10_000
"""Of so many provisional entries a process remembers since when it has seen them."""
log = structlog.get_logger("coupon.reservations")


class Again(Enum):
    """Look once more: at once, or after a moment."""

    NOW = auto()
    LATER = auto()


class Snapshot(NamedTuple):
    """A coupon as a request saw it.

    ``token`` is of the entry that a reservation replaces; None when there is none. ``fresh``: the coupon is as the
    store has it, where a chain of commands begins; ``epoch`` is set when that was believed without a claim. ``own``:
    the coupon is as this very operation will make it, and is reserved, but nobody knows whether the queue has the
    command.
    """

    coupon: Coupon
    token: Any
    fresh: bool = False
    epoch: Known | None = None
    own: bool = False


class Step(NamedTuple):
    """A command's step from a snapshot to the coupon after it."""

    snapshot: Snapshot
    after: Coupon


class Reservation(NamedTuple):
    """A provisional entry of one request, as the cache has it, until the queue has acknowledged the command."""

    code: str
    value: bytes
    token: Any


class Reservations:
    """Reads, reserves, confirms. Thread-safe. Every method raises CacheAway when the cache does not answer, and
    BackendUnavailable when the queue or the store does not."""

    def __init__(
        self,
        cache: CacheOrAway,
        store: Store,
        fences: Fences,
        code_deriver: CodeDeriver,
        settings: Settings,
        sleep: Sleep = time.sleep,
        timer: Clock = monotonic_ms,
    ) -> None:
        self._cache, self._store, self._fences = cache, store, fences
        self._entries = Entries(code_deriver)
        self._losses = Losses(cache, fences, code_deriver, settings.cache_ttl_s, timer)
        self._sleep, self._timer = sleep, timer
        self._ttl_s, self._void_ms = settings.cache_ttl_s, settings.reservation_ttl_s * 1000
        self._wait_ms = settings.reservation_wait_ms
        self._seen: dict[str, tuple[Any, int]] = {}

    def read(self, code: str, operation: str) -> Snapshot | None:
        """The coupon after all that was accepted, for a request of that operation; None when there is no such coupon.
        Waits a few milliseconds for a provisional reservation to be confirmed, and for a fence to be passed; raises
        CouponBusy after that."""
        began, pause_s = self._timer(), 0.001
        while True:
            found = self._look(code, operation)
            if not isinstance(found, Again):
                return found
            if self._timer() - began > self._wait_ms:
                raise CouponBusy(code)
            if found is Again.LATER:
                self._sleep(pause_s)
                pause_s = min(pause_s * 2, 0.02)

    def read_many(self, codes: Sequence[str]) -> dict[str, Snapshot]:
        """The coupons on which a command can build at once, by code. The others have to be ``read``, one by one: there
        is nothing, or something has to be waited for, or to be found out."""
        cached = self._cache.get_many([cache_key(code) for code in codes])
        found: dict[str, Snapshot] = {}
        epochs: dict[str, Known] = {}
        for code in codes:
            entry = cached.get(cache_key(code))
            if entry is None:
                if (epoch := self._losses.excluded(cache_key(code))) is not None:
                    epochs[code] = epoch
            elif isinstance(known := self._decoded(code, entry), Confirmed):
                found[code] = Snapshot(known.coupon, entry.token)
        try:
            coupons: Mapping[str, Coupon] = self._store.get_many(list(epochs)) if epochs else {}
        except Unreadable as error:
            coupons = error.found
        return found | {code: Snapshot(coupon, None, True, epochs[code]) for code, coupon in coupons.items()}

    def _look(self, code: str, operation: str) -> "Snapshot | Again | None":
        cached = self._cache.get(cache_key(code))
        if cached is None:
            epoch = self._losses.excluded(cache_key(code))
            return self._put(code, None, UNFENCED) if epoch is None else self._from_store(code, None, epoch)
        match self._decoded(code, cached):
            case Confirmed(coupon):
                return Snapshot(coupon, cached.token)
            case Provisional(coupon) if coupon.last_operation == operation and self._is_believed(coupon):
                return Snapshot(coupon, cached.token, own=True)
            case Provisional() if not self._is_void(code, cached.token):
                return Again.LATER
            case Claim(fence) if fence is not None:
                return self._behind(code, cached.token, fence)
            case Claim():
                return self._put(code, cached.token, Claim(self._fences.of(code)))
        return self._put(code, cached.token, UNFENCED)

    def _is_believed(self, coupon: Coupon) -> bool:
        """Whether the coupon that the entry builds on is certain. An entry that was added on a miss is certain once
        somebody has checked that the cache had lost nothing. Its process may have died before it did."""
        if not begins_a_chain(coupon):
            return True
        epoch = self._losses.excluded(cache_key(coupon.code))
        if epoch is None or not extends(self._store.get_many([coupon.code]).get(coupon.code), coupon):
            return False
        return self._losses.still_excluded(epoch)

    def _behind(self, code: str, token: Any, fence: Fence) -> "Snapshot | Again | None":
        try:
            is_passed = self._fences.passed(fence)
        except BackendRejected:  # of a topic that is gone
            return self._put(code, token, UNFENCED)
        if is_passed:
            return self._from_store(code, token)
        return Again.LATER if self._fences.is_real(fence) else self._put(code, token, UNFENCED)

    def _put(self, code: str, token: Any, claim: Claim) -> "Again":
        self._replace(code, token, claim)
        return Again.NOW

    def is_behind(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot is not what the store leads to. Asked before a refusal: the cache is a hint.

        A claim replaces the entry when the store has another command in its history, or has rejected one of these.
        A snapshot from the store is behind when the cache lost something meanwhile.
        """
        code = snapshot.coupon.code
        if snapshot.fresh:
            return snapshot.epoch is not None and not self._losses.still_excluded(snapshot.epoch)
        if extends(self._store.get_many([code]).get(code), snapshot.coupon):
            return False
        self._replace(code, snapshot.token, UNFENCED)
        return True

    def reserve(self, steps: Sequence[Step]) -> list[Reservation | None]:
        """Reserve each step, provisionally. None for one whose snapshot is no longer true.

        A coupon was read from the store because the cache had lost nothing. When it has lost something meanwhile, the
        entry is taken back."""
        writes, epochs = [], set()
        for snapshot, after in steps:
            value = self._entries.encode(after.code, Provisional(after))
            writes.append(Write(cache_key(after.code), value, self._ttl_s, snapshot.token))
            if snapshot.epoch is not None:
                epochs.add(snapshot.epoch)
        tokens, entries = self._cache.write_many(writes, [epoch.name for epoch in epochs])
        lost = {epoch for epoch in epochs if not self._losses.was_excluded(epoch, entries.get(epoch.name))}
        reservations: list[Reservation | None] = []
        for (snapshot, after), write, token in zip(steps, writes, tokens, strict=True):
            if token is not None and snapshot.epoch in lost:
                self._replace(after.code, token, UNFENCED)
                token = None
            reservations.append(None if token is None else Reservation(after.code, write.value, token))
        return reservations

    def confirm(self, reservations: Sequence[Reservation]) -> list[bool]:
        """The queue has the commands: others may build on them. False where the reservation is no longer there: then
        the request must not be answered with 202, because nobody else knows of the command."""
        writes = [
            Write(cache_key(code), self._entries.confirmed(code, value), self._ttl_s, token)
            for code, value, token in reservations
        ]
        try:
            return [token is not None for token in self._cache.write_many(writes).tokens]
        except CacheAway:
            return [False] * len(writes)

    def give_back(self, reservation: Reservation) -> None:
        """Replace the reservation by a claim: the queue certainly does not have the command."""
        try:
            self._replace(reservation.code, reservation.token, UNFENCED)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))

    def _replace(self, code: str, token: Any, claim: Claim) -> None:
        """Unless the entry is gone. Without a token there was none."""
        key, value = cache_key(code), self._entries.encode(code, claim)
        if token is None:
            self._cache.add(key, value, self._ttl_s)
        else:
            self._cache.replace(key, value, token, self._ttl_s)

    def _decoded(self, code: str, cached: Cached) -> Claim | Confirmed | Provisional | None:
        """None for what is of another version, or not ours: it counts as lost."""
        try:
            return self._entries.decode(code, cached.value)
        except Malformed as error:
            log.warning("cache entry dropped", code=code, error=str(error))
            return None

    def _from_store(self, code: str, token: Any, epoch: Known | None = None) -> Snapshot | None:
        coupon = self._store.get_many([code]).get(code)
        return None if coupon is None else Snapshot(coupon, token, fresh=True, epoch=epoch)

    def _is_void(self, code: str, token: Any) -> bool:
        """Whether this process has seen the provisional entry for longer than a publish takes. Then the process that
        added it died, or its publish was never acknowledged."""
        now = self._timer()
        seen, since = self._seen.get(code, (None, now))
        if seen != token:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen[code] = (token, now)
            return False
        if now - since <= self._void_ms:
            return False
        self._seen.pop(code, None)
        return True
