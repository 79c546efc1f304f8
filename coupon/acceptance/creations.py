"""Accepting a creation: one message for each chunk of its coupons. Creations need no order and no reservation."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from coupon.acceptance.creation_limits import CreationLimits
from coupon.acceptance.creation_progress import CreationProgress
from coupon.acceptance.idempotency import Binding, IdempotencyKeys
from coupon.acceptance.operations import CreationRef
from coupon.acceptance.requests import Caller
from coupon.domain.chunks import Chunk, split
from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CacheAway, TooManyCreations
from coupon.domain.model import CreateCoupons, Day, Kind
from coupon.domain.serialization import encode_command
from coupon.domain.topics import LAYOUTS
from coupon.ports.queue import Message
from coupon.runtime.logs import traceparent
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends

TOGETHER_MS = 20
"""Creations of so many milliseconds go to the same partition, and so to Kafka in one batch: their order is nobody's
business. The chunks of one creation do not, so that several workers share them."""
PUBLISHED_MAX = 10_000
"""Of so many creations a process remembers that it has published them."""
log = structlog.get_logger("coupon.service")


class ImportChunk(NamedTuple):
    """Coupons whose codes are given: up to ``model.CHUNK`` with the same days."""

    codes: tuple[str, ...]
    valid_from: Day
    expire_at: Day


class Creations:
    """Thread-safe. Every method raises BackendUnavailable when nobody knows whether the queue has all of it: the same
    operation is safe to send again."""

    def __init__(
        self,
        backends: Backends,
        settings: Settings,
        code_deriver: CodeDeriver,
        keys: IdempotencyKeys,
        progress: CreationProgress,
        clock: Clock,
        timer: Clock,
    ) -> None:
        self._queue, self._store, self._code_deriver, self._keys = backends.queue, backends.store, code_deriver, keys
        self._topic = LAYOUTS[settings.topics][Kind.CREATE]
        self._progress, self._clock = progress, clock
        self._published = OrderedDict[str, None]()
        self._limits = CreationLimits(backends.queue, backends.cache, code_deriver, settings, timer)

    def create(self, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> CreationRef:
        """Accept a creation: publish a message for each chunk, without waiting for any coupon. Raises
        IdempotencyKeyReused, TooManyCreations."""
        words = f"{Kind.CREATE}\0{amount}\0{valid_from}\0{expire_at}"
        operation = self._code_deriver.operation(caller.name, caller.idempotency_key, words)
        binding = self._bind(caller, operation)
        if operation not in self._published and (binding is None or not binding.accepted):
            try:
                self._create(operation, amount, valid_from, expire_at, caller)
            except TooManyCreations:
                self._tell(self._keys.release, binding)
                raise
            self._tell(self._keys.accepted, binding)
            self._remember(operation)
        log.info("accepted", operation=operation, kind=Kind.CREATE, amount=amount)
        return CreationRef(operation, amount)

    def import_chunks(self, operation: str, chunks: Sequence[ImportChunk], actor: str) -> None:
        """Accept the creation of coupons with these very codes (an import), a message a chunk. Existing coupons are
        left as they are. A chunk's last code is its marker: it is stored after the others. The same operation is safe
        to send again. Raises TooManyCreations: then wait for the workers."""
        amount, first, messages = sum(len(chunk.codes) for chunk in chunks), 0, []
        for codes, valid_from, expire_at in chunks:
            whole = self._whole(operation, amount, valid_from, expire_at, actor)
            messages.append(self._message(whole._replace(first=first, size=len(codes), codes=codes)))
            first += len(codes)
        with self._limits.admitted(operation, amount):
            self._queue.publish(messages)

    def _create(self, operation: str, amount: int, valid_from: Day, expire_at: Day, caller: Caller) -> None:
        whole = self._whole(operation, amount, valid_from, expire_at, caller.name)
        retried = caller.idempotency_key is not None and self._was_begun(whole)
        left = self._progress.missing(operation, amount) if retried else split(amount)
        messages = [self._message(whole._replace(first=chunk.first, size=chunk.size)) for chunk in left]
        if retried:  # it was accepted before, and is not too many now
            self._queue.publish(messages)
            return
        with self._limits.admitted(operation, amount, caller.name):
            self._queue.publish(messages)

    def _whole(self, operation: str, amount: int, valid_from: Day, expire_at: Day, actor: str) -> CreateCoupons:
        """All of the operation's coupons, accepted now."""
        return CreateCoupons(
            operation=operation,
            amount=amount,
            first=0,
            size=amount,
            codes=(),
            secret_fingerprint=self._code_deriver.fingerprint,
            valid_from=valid_from,
            expire_at=expire_at,
            accepted_at=self._clock(),
            actor=actor,
            traceparent=traceparent.get(),
        )

    def _remember(self, operation: str) -> None:
        """The queue has all of its messages: a retry publishes none, also without a cache."""
        self._published[operation] = None
        if len(self._published) > PUBLISHED_MAX:
            self._published.popitem(last=False)

    def _message(self, chunk: CreateCoupons) -> Message:
        return Message(self._topic, f"{chunk.accepted_at // TOGETHER_MS}/{chunk.first}", encode_command(chunk))

    def _was_begun(self, whole: CreateCoupons) -> bool:
        """True when the store knows the operation: its first or last chunk was applied (in part)."""
        first = next(self._code_deriver.codes(whole.operation, 0, 1))
        last = Chunk(0, whole.amount).marker(whole.operation, self._code_deriver)
        return bool(self._store.get_many([first, last]))

    def _bind(self, caller: Caller, operation: str) -> Binding | None:
        """None without a key, or without a cache: another creation with the key is another operation all the same."""
        if caller.idempotency_key is None:
            return None
        try:
            return self._keys.bind(caller.name, caller.idempotency_key, operation)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))
            return None

    def _tell(self, tell: Callable[[Binding], None], binding: Binding | None) -> None:
        try:
            if binding is not None:
                tell(binding)
        except CacheAway as error:
            log.warning("cache unavailable", error=str(error))
