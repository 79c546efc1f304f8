"""The worker: poll, decide, save, index, commit.

Offsets are committed last: after the store has the coupons, and search has them or the outbox has their codes. So a
worker may die between any two steps: its messages in flight are delivered again, and recognised.
"""

import threading
from collections.abc import Iterable, Sequence

import structlog

from coupon.applying.batch import Task, split
from coupon.domain.clock import Clock, monotonic_ms, now_ms
from coupon.domain.errors import BackendError, DeploymentError, StillUnavailable
from coupon.domain.topics import GROUP, OUTBOX, work_topics
from coupon.ports.queue import Consumer, Position
from coupon.runtime.diagnostics import stranded
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.worker.backoff import Backoff
from coupon.worker.wiring import wire

POLL_S = 0.5
IDLE_S = 0.05
"""The checkpoint is flushed after so long without a message."""
BUSY, GATHER_S = 4, 0.02
"""After a batch of at least so many messages, and less than an eighth of the most, a worker waits so long for more. A
message of a small batch costs several times as much as one of a large batch. A backlog gives larger ones: a poll takes
a fair part of each partition, and most topics have none."""
ROUND_MAX_MS = 5_000
"""The longest time for one batch; the rest of it is delivered again. A batch with creations may take long, and a group
expels a member that does not poll."""
log = structlog.get_logger("coupon.worker")


def join(backends: Backends, settings: Settings, topics: Sequence[str] = ()) -> Consumer:
    """A new member of the workers' group, for these topics; without any, for all topics of the layout."""
    return backends.queue.consumer(list(topics) or work_topics(settings.topics), GROUP)


class Worker:
    """Applies what its consumer delivers, in one thread. ``run_once`` applies one batch, ``run`` repeats that until it
    is stopped. ``topics`` are the consumer's."""

    def __init__(
        self,
        backends: Backends,
        settings: Settings,
        consumer: Consumer,
        topics: Sequence[str] = (),
        clock: Clock = now_ms,
        timer: Clock = monotonic_ms,
    ) -> None:
        chosen = list(topics) or work_topics(settings.topics)
        wired = wire(backends, settings, consumer, chosen, clock, timer)
        self._heartbeat, self._turns, self._horizons = wired.heartbeat, wired.turns, wired.horizons
        self._deferred, self._ready, self._policy = wired.deferred, wired.ready, wired.policy
        self._indexer, self._checkpoint, self._outbox = wired.indexer, wired.checkpoint, wired.outbox
        self._step = wired.step
        self._store, self._queue, self._layout = backends.store, backends.queue, settings.topics
        self._consumer, self._batch_max, self._timer = consumer, settings.batch_max, timer
        self._backoff = Backoff()
        self._failure: str | None = None
        self._round_end = 0
        self._is_busy = False
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then finish the part in flight, flush the checkpoint, and leave the group. While
        a backend is unavailable it retries. Raises DeploymentError."""
        self._stop = stop
        try:
            while not stop.is_set():
                try:
                    if not self._heartbeat.works:
                        self._refuse_another_layout()
                    self.run_once()
                    self._backoff.reset()
                    self._failure = None
                except BackendError as error:
                    stop.wait(self._back_off(error))
            self._try_to_flush()
        finally:
            self._consumer.close()

    def run_once(self, poll_s: float = POLL_S) -> int:
        """Apply one batch: polled messages, deferred commands that are ready, and a portion of the creations. Returns
        the number of messages. After BackendUnavailable nothing is lost: call ``rewind`` and go on."""
        if self._is_busy:
            self._stop.wait(GATHER_S)
        self._beat()
        self._consumer.pause(self._paused())
        polled = self._turns.hold_creations(self._consumer.poll(self._batch_max, self._poll_s(poll_s)))
        portion = self._turns.portion()
        self._is_busy = BUSY <= len(polled) < self._batch_max // 8 and not portion
        if not self._apply_batch(polled, portion):
            self.flush()
            self.rewind()
        elif self._checkpoint.due_in_ms() == 0 or not (polled or portion or self._deferred):
            self.flush()
        self._prove_that_it_works()
        return len(polled) + len(portion)

    def rewind(self) -> None:
        """Forget all that was not committed: it is delivered again."""
        self._deferred.clear()
        self._turns.clear()
        self._horizons.rewind()
        self._checkpoint.rewind()

    def flush(self) -> None:
        """Index the stored coupons and commit the offsets. Raises BackendUnavailable: then call ``rewind``."""
        self._checkpoint.flush(self._deferred.record_ids())

    def _apply_batch(self, polled: Sequence[Task], portion: Sequence[Task]) -> bool:
        """False when the rest has to be delivered again."""
        self._round_end = self._timer() + ROUND_MAX_MS
        return (
            self._apply(task for task in polled if task.position.topic not in OUTBOX)
            and self._apply(self._ready.poll())
            and self._create(portion)
            and self._apply(task for task in polled if task.position.topic in OUTBOX)
        )

    def _apply(self, tasks: Iterable[Task]) -> bool:
        """False when the rest has to be delivered again."""
        for part in split(tasks):
            if self._stop.is_set() or self._timer() > self._round_end:
                return False
            try:
                self._run_step(part)
            except StillUnavailable:
                return False
            if self._checkpoint.due_in_ms() == 0:
                self.flush()
            self._beat()
        return True

    def _create(self, portion: Sequence[Task]) -> bool:
        """False when the rest has to be delivered again."""
        began = self._timer()
        is_whole = self._apply(portion)
        if portion:
            self._turns.took(self._timer() - began)
        return is_whole

    def _run_step(self, part: list[Task]) -> None:
        """When the part fails, flush the parts before it. Otherwise a store that throttles would let no batch end."""
        try:
            self._step.run(part)
            self._backoff.reset()
        except BackendError:
            self._try_to_flush()
            raise

    def _refuse_another_layout(self) -> None:
        """Commands in the topics of another layout would be applied after commands that build on them."""
        sentences = stranded(self._queue, self._layout)
        if sentences:
            raise DeploymentError(f"{'; '.join(sentences)}: let those drain it first")

    def _beat(self) -> None:
        self._heartbeat.beat(
            waiting=len(self._deferred),
            search_away=self._indexer.is_unavailable(),
            failure=self._failure,
            left_alone=self._policy.left_alone,
            delivered=self._horizons.delivered,
        )

    def _prove_that_it_works(self) -> None:
        """Before the first batch the store has to answer: only then does the heartbeat count as work."""
        if not self._heartbeat.works:
            self._store.ping()
            self._heartbeat.count()
            self._beat()

    def _back_off(self, error: BackendError) -> float:
        """Seconds to wait before the next try."""
        pause_s = self._backoff.next_pause_s()
        self._failure = str(error)
        log.warning("backend unavailable", error=str(error), retry_in_s=round(pause_s, 2))
        self.rewind()
        return pause_s

    def _paused(self) -> set[str | Position]:
        """Topics and partitions of which nothing can be applied now, or of which too much is deferred already."""
        deferred, left_alone = self._deferred.full_partitions(), self._policy.left_alone.keys()
        return self._outbox.unavailable_topics() | self._turns.paused | deferred | left_alone

    def _poll_s(self, poll_s: float) -> float:
        """How long to wait for messages: at most until the next deferred command or flush is due."""
        if self._turns.are_due:
            return 0
        deferred_ms, flush_ms = self._deferred.due_in_ms(), self._checkpoint.due_in_ms()
        waits_s = [poll_s]
        if deferred_ms is not None:
            waits_s.append(deferred_ms / 1000)
        if flush_ms is not None:
            waits_s += [IDLE_S, flush_ms / 1000]
        return min(waits_s)

    def _try_to_flush(self) -> None:
        try:
            self.flush()
        except BackendError as error:
            log.warning("not committed", error=str(error))
