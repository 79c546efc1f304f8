"""The worker: poll → decide → save → index → commit. It makes the protocol true.

Offsets are committed after the store and search (or the note that search is owed something) have answered, so a worker
may die between any two steps: what it had in flight is delivered again, and recognised.
"""

import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

import structlog

from coupon.applying.apply import DeploymentError, apply_creations
from coupon.applying.batch import BadMessage, OtherVersion, OutboxEntry, Place, Task, split
from coupon.applying.safe_reads import read
from coupon.domain.clock import Clock, monotonic_ms, now_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons
from coupon.domain.topics import GROUP, INVALIDATE, OUTBOX, REINDEX, command_topics, is_ordered, work_topics
from coupon.ports.backend import BackendError, BackendUnavailable
from coupon.ports.queue import Position
from coupon.runtime.circuit_breaker import Away
from coupon.runtime.diagnostics import stranded
from coupon.runtime.heartbeat import Heartbeat
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.checkpoint import Checkpoint
from coupon.worker.dead_letter_policy import DeadLetterPolicy, Failure
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons
from coupon.worker.indexer import Indexer
from coupon.worker.settling import Settling
from coupon.worker.turns import Turns

POLL_S = 0.5
IDLE_S = 0.05
"""When nothing came for so long, search and the queue are told what was done."""
PAUSE_S, PAUSE_MAX_S = 0.1, 5.0
ROUND_MAX_MS = 5_000
"""After so long in one batch the rest of it is given back and polled again: creations may make a batch very long, and a
group takes a member that does not poll for dead."""
ALIEN = "accepted with another COUPON_SECRET, whose fingerprint is {}"
log = structlog.get_logger("coupon.worker")


class Worker:
    """One synchronous consumer. ``run_once`` is a step that tests drive; ``run`` repeats it until told to stop."""

    def __init__(
        self,
        backends: Backends,
        settings: Settings,
        topics: Sequence[str] = (),
        clock: Clock = now_ms,
        timer: Clock = monotonic_ms,
    ) -> None:
        self._store, self._queue, self._timer = backends.store, backends.queue, timer
        self._layout = settings.topics
        self._mint = CodeDeriver(settings.secret)
        self._indexer = Indexer(backends.search, backends.queue, timer)
        self._invalidation = CacheInvalidator(
            backends.cache, backends.store, backends.queue, self._mint, settings.cache_ttl_s, timer
        )
        chosen = list(topics) or work_topics(settings.topics)
        self._heartbeat = Heartbeat(backends.cache, self._mint, settings.heartbeat_file, clock, timer, chosen)
        self._consumer = backends.queue.consumer(chosen, GROUP)
        self._batch_max = settings.batch_max
        ordered = is_ordered(settings.topics)
        self._waiting = DeferredCommands(timer, ordered=ordered)
        self._dead_letter_policy = DeadLetterPolicy(backends.queue, clock, settings.dead_letters_in_a_row)
        self._horizons = Horizons(
            backends.queue, command_topics(settings.topics), timer, self._heartbeat.delivered_to_others
        )
        self._settling = Settling(
            backends.store,
            backends.queue,
            self._invalidation,
            self._waiting,
            self._horizons,
            self._dead_letter_policy,
            settings.predecessor_wait_s * 1000,
            ordered=ordered,
        )
        self._turns = Turns(self._mint.fingerprint)
        self._checkpoint = Checkpoint(self._indexer, self._consumer, timer, settings.batch_max)
        self._failures = 0
        self._failure: str | None = None
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then finish and commit the part in flight, and leave the group. A backend that is
        unavailable is waited for; DeploymentError ends the worker."""
        self._stop = stop
        try:
            while not stop.is_set():
                try:
                    if not self._heartbeat.works:
                        self._refuse_another_layout()
                    self.run_once()
                    self._failures, self._failure = 0, None
                except BackendError as error:
                    stop.wait(self._back_off(error))
            self._try_to_tell()
        finally:
            self._consumer.close()

    def run_once(self, poll_s: float = POLL_S) -> int:
        """Apply one batch, what waits and is due, and a portion of the creations; the number of messages that were
        taken. After BackendUnavailable nothing is lost: call ``rewind`` and go on."""
        self._beat()
        self._consumer.pause(self._places_to_leave_alone() | self._turns.paused)
        fresh = self._turns.hold(self._consumer.poll(self._batch_max, self._poll_s(poll_s)))
        portion = self._turns.portion()
        self._started = self._timer()
        is_whole = (
            self._go_through(split(item for item in fresh if item.position.topic not in OUTBOX))
            and self._go_through(split(self._settling.ripe()))
            and self._create(portion)
            and self._go_through(split(item for item in fresh if item.position.topic in OUTBOX))
        )
        if not is_whole:
            self._tell()
            self.rewind()
        elif not fresh and not portion and not self._waiting:
            self._tell()
        if not self._heartbeat.works:
            self._store.ping()
            self._heartbeat.count()
            self._beat()
        return len(fresh) + len(portion)

    def rewind(self) -> None:
        """Forget what was not committed: it is delivered again."""
        self._waiting.forget()
        self._turns.forget()
        self._horizons.rewind()
        self._checkpoint.rewind()

    def _go_through(self, several: Iterable[list[Task]]) -> bool:
        """False when the rest has to be delivered again."""
        for part in several:
            if self._stop.is_set() or self._timer() - self._started > ROUND_MAX_MS:
                return False
            try:
                self._process_or_tell(part)
            except Away:
                return False
            if self._checkpoint.due_in_ms() == 0:
                self._tell()
            self._beat()
        return True

    def _create(self, portion: list[Task]) -> bool:
        began = self._timer()
        is_whole = self._go_through(split(portion))
        if portion:
            self._turns.took(self._timer() - began)
        return is_whole

    def _refuse_another_layout(self) -> None:
        """Commands that wait elsewhere would be overtaken by those built on them."""
        sentences = stranded(self._queue, self._layout)
        if sentences:
            raise DeploymentError(f"{'; '.join(sentences)}: let those drain it first")

    def _beat(self) -> None:
        self._heartbeat.beat(
            waiting=len(self._waiting),
            search_away=self._indexer.is_away(),
            failure=self._failure,
            left_alone=self._dead_letter_policy.left_alone,
            delivered=self._horizons.delivered,
        )

    def _back_off(self, error: BackendError) -> float:
        """Seconds to wait before the next try."""
        pause_s = min(PAUSE_S * 2.0**self._failures, PAUSE_MAX_S) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 10)
        self._failure = str(error)
        log.warning("backend unavailable", error=str(error), retry_in_s=round(pause_s, 2))
        self.rewind()
        return pause_s

    def _places_to_leave_alone(self) -> set[str | Position]:
        """What is owed to search or the cache, while that is away; partitions of which enough is waiting already, or
        that are no good."""
        owed = ((REINDEX, self._indexer.is_away()), (INVALIDATE, self._invalidation.is_away()))
        places: set[str | Position] = {topic for topic, is_away in owed if is_away}
        return places | self._waiting.crowded() | self._dead_letter_policy.left_alone.keys()

    def _process_or_tell(self, part: list[Task]) -> None:
        """Where the part fails, tell at least of those before it: a store that throttles would not get on otherwise."""
        waiting = [item for item in part if self._waiting.holds(item)]
        try:
            self._process(part)
            self._failures = 0
        except BackendError:
            self._hold_again(waiting)
            self._try_to_tell()
            raise

    def _process(self, part: list[Task]) -> None:
        """Carry the part out. What cannot be, whatever the reason, is found by going one by one, and given up: no
        message may stop all those behind it."""
        part = [item for item in part if not self._is_left_alone(item)]
        waited = {item.place for item in part if self._waiting.holds(item)}
        try:
            letters = self._apply(part)
        except (Away, BackendUnavailable, DeploymentError):
            raise
        except Exception as error:
            if len(part) > 1:
                self._hold_again(item for item in part if item.place in waited)
                for item in part:
                    self._process([item])
                return
            letters = {part[0].place: Failure(str(error) if isinstance(error, BackendError) else repr(error))}
        done = [item for item in self._dead_letter_policy.dead_letter(part, letters) if not item.goes_on]
        for item in done:
            if item.place in letters:
                self._waiting.release(item)
        finished = {item.place for item in done}
        self._hold_again(i for i in part if i.place in waited and i.place in letters and i.place not in finished)
        self._checkpoint.done([item for item in done if item.place not in waited or not self._waiting.holds(item)])
        for item in done:
            self._horizons.reach(item.position, item.delivery.offset + 1)

    def _hold_again(self, tasks: Iterable[Task]) -> None:
        """What waited, and was taken out though it is not done for certain, or its letter was not written: the commit
        would pass it."""
        for item in tasks:
            self._waiting.hold_again(item)

    def _is_left_alone(self, item: Task) -> bool:
        if isinstance(item.wanted, OtherVersion):
            self._dead_letter_policy.leave_alone(item, item.wanted.reason)
        return item.position in self._dead_letter_policy.left_alone and not self._waiting.holds(item)

    def _apply(self, part: list[Task]) -> dict[Place, Failure]:
        """Returns the reasons for which some can never be applied."""
        letters = {item.place: Failure(item.wanted.reason) for item in part if isinstance(item.wanted, BadMessage)}
        chunks = self._of_ours([item for item in part if isinstance(item.wanted, CreateCoupons)], letters)
        touched: dict[str, Coupon] = {}
        if chunks:
            touched |= apply_creations(self._store, chunks, self._mint)
            self._waiting.look_now(touched)
            log.info("created", operations=_sizes(chunks))
        changes = [item for item in part if isinstance(item.wanted, ChangeCoupon)]
        touched |= self._settling.settle(changes, letters)
        if not all(item.command.reserved for item in changes):
            self._checkpoint.hurry()  # whoever accepted it without the cache answers after the commit
        self._checkpoint.stored(touched)
        self._indexer.catch_up(read(self._store, _owed(part, REINDEX)).coupons.values())
        self._invalidation.catch_up(sorted(_owed(part, INVALIDATE)))
        return letters

    def _of_ours(self, tasks: list[Task], letters: dict[Place, Failure]) -> list[CreateCoupons]:
        """The creations whose codes this worker's secret makes; the others are dead-lettered until it is right."""
        ours = []
        for item in tasks:
            chunk = item.wanted
            assert isinstance(chunk, CreateCoupons)  # noqa: S101
            if chunk.codes or chunk.mint == self._mint.fingerprint:
                ours.append(chunk)
            else:
                letters[item.place] = Failure(ALIEN.format(chunk.mint[:20]), is_poison=False)
        return ours

    def _poll_s(self, poll_s: float) -> float:
        """How long to wait for messages: not beyond what else is to be done."""
        if self._turns.are_due:
            return 0
        waiting_ms, due_in_ms = self._waiting.due_in_ms(), self._checkpoint.due_in_ms()
        waits_s = [poll_s]
        if waiting_ms is not None:
            waits_s.append(waiting_ms / 1000)
        if due_in_ms is not None:
            waits_s += [IDLE_S, due_in_ms / 1000]
        return min(waits_s)

    def _tell(self) -> None:
        self._checkpoint.flush(self._waiting.places())

    def _try_to_tell(self) -> None:
        try:
            self._tell()
        except BackendError as error:
            log.warning("not committed", error=str(error))


def _owed(part: list[Task], topic: str) -> set[str]:
    """The codes that are owed there."""
    return {
        code
        for item in part
        if isinstance(item.wanted, OutboxEntry) and item.wanted.topic == topic
        for code in item.wanted.codes
    }


def _sizes(chunks: list[CreateCoupons]) -> Counter[str]:
    """How many coupons of each operation."""
    sizes: Counter[str] = Counter()
    for chunk in chunks:
        sizes[chunk.operation] += chunk.size
    return sizes
