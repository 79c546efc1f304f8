"""The worker: poll → decide → save → index → commit. It makes the protocol true.

Offsets are committed after the store and search (or the note that search is owed something) have answered, so a worker
may die between any two steps: what it had in hand is delivered again, and recognised.
"""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from coupon import dead_letters
from coupon.batch import Owed, Place, Task, Unreadable, parts
from coupon.carrying_out import DeploymentError, change, create_all
from coupon.clock import Clock, now_ms
from coupon.codes import Mint
from coupon.heartbeat import Heartbeat
from coupon.indexing import Indexer
from coupon.invalidation import Invalidation
from coupon.model import Command, Coupon, CreateCoupons
from coupon.ports.backend import BackendError, BackendUnavailable
from coupon.ports.queue import Position
from coupon.progress import Progress
from coupon.protocol import Verdict
from coupon.settings import Settings
from coupon.topics import GROUP, INVALIDATE, OWED, REINDEX, command_topics
from coupon.turns import Turns
from coupon.wiring import Backends

POLL_S = 0.5
POLL_WHILE_WAITING_S = 0.02
IDLE_S = 0.05
"""When nothing came for so long, search and the queue are told what was done."""
PAUSE_S, PAUSE_MAX_S = 0.1, 5.0
ROUND_MAX_MS = 5_000
"""After so long in one batch the rest of it is given back and polled again: creations may make a batch very long, and a
group takes a member that does not poll for dead."""
log = structlog.get_logger("coupon.worker")


class Waiting(NamedTuple):
    """A command whose predecessor is not here yet, and since when (ms). Its offset is not committed."""

    task: Task
    since: int


class Worker:
    """One synchronous consumer. ``run_once`` is a step that tests drive; ``run`` repeats it until told to stop."""

    def __init__(
        self, backends: Backends, settings: Settings, topics: Sequence[str] = (), clock: Clock = now_ms
    ) -> None:
        self._store, self._queue = backends.store, backends.queue
        self._clock = clock
        self._mint = Mint(settings.secret)
        self._indexer = Indexer(backends.search, backends.queue, clock)
        self._invalidation = Invalidation(
            backends.cache, backends.store, backends.queue, self._mint, settings.cache_ttl_s, clock
        )
        self._heartbeat = Heartbeat(backends.cache, settings.heartbeat_file, clock)
        self._consumer = backends.queue.consumer(list(topics) or [*command_topics(settings.topics), *OWED], GROUP)
        self._batch_max = settings.batch_max
        self._ordered = settings.topics == "single"
        self._patience_ms = settings.predecessor_wait_s * 1000
        self._letters_max = settings.dead_letters_in_a_row
        self._letters_in_a_row = 0
        self._waiting: dict[Place, Waiting] = {}
        self._turns = Turns()
        self._progress = Progress(self._indexer, self._consumer, clock, settings.batch_max)
        self._failures = 0
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set: the part in hand is finished and committed, then the group is left. A backend that is
        away is waited for; DeploymentError ends the worker."""
        self._stop = stop
        try:
            while not stop.is_set():
                try:
                    self.run_once()
                    self._failures = 0
                except BackendError as error:
                    stop.wait(self._back_off(error))
            self._try_to_tell()
        finally:
            self._consumer.close()

    def run_once(self, poll_s: float = POLL_S) -> int:
        """Carry out one batch, then a portion of the creations; the number of messages that were taken in hand. After
        BackendUnavailable nothing is lost: call ``rewind`` and go on."""
        self._beat()
        self._consumer.pause(self._places_to_leave_alone() | self._turns.paused)
        fresh = self._turns.hold(self._consumer.poll(self._batch_max, self._poll_s(poll_s)))
        self._take_in_hand([waiting.task for waiting in self._waiting.values()] + fresh)
        portion = self._turns.portion()
        self._take_in_hand(portion)
        if not fresh and not portion and not self._waiting:
            self._tell()
        return len(fresh) + len(portion)

    def rewind(self) -> None:
        """Forget what was not committed: it is delivered again."""
        self._waiting.clear()
        self._turns.forget()
        self._progress.rewind()

    def _take_in_hand(self, tasks: list[Task]) -> None:
        """Carry them out, as far as there is time for it."""
        started = self._clock()
        for part in parts(tasks):
            if self._stop.is_set() or self._clock() - started > ROUND_MAX_MS:
                self._tell()
                self.rewind()
                break
            self._process_or_tell(part)
            if self._letters_in_a_row or self._progress.due_in_ms() == 0:  # or a letter would be counted once more
                self._tell()
            self._beat()

    def _beat(self) -> None:
        self._heartbeat.beat(waiting=len(self._waiting), search_away=self._indexer.is_away())

    def _back_off(self, error: BackendError) -> float:
        """Seconds to wait before the next try."""
        pause_s = min(PAUSE_S * 2.0**self._failures, PAUSE_MAX_S) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 10)
        log.warning("backend unavailable", error=str(error), retry_in_s=round(pause_s, 2))
        self.rewind()
        return pause_s

    def _places_to_leave_alone(self) -> set[str | Position]:
        """What is owed to search or the cache, while that is away; partitions of which enough is waiting already. Not
        whole topics: a coupon's commands have the same partition in each, so the oldest of all is never left alone."""
        waiting = Counter(position for position, _ in self._waiting)
        owed = ((REINDEX, self._indexer.is_away()), (INVALIDATE, self._invalidation.is_away()))
        places: set[str | Position] = {topic for topic, is_away in owed if is_away}
        return places.union(position for position, number in waiting.items() if number >= self._batch_max)

    def _process_or_tell(self, part: list[Task]) -> None:
        """Where the part fails, tell at least of those before it: a store that throttles would not get on otherwise."""
        waiting = dict(self._waiting)
        try:
            self._process(part)
            self._failures = 0
        except BackendError:
            self._waiting |= waiting  # what the part had taken out is not done for certain
            self._try_to_tell()
            raise

    def _process(self, part: list[Task]) -> None:
        """Carry the part out. What cannot be, whatever the reason, is found by going one by one, and given up: no
        message may stop all those behind it."""
        try:
            letters = self._carry_out(part)
        except (BackendUnavailable, DeploymentError):
            raise
        except Exception as error:
            if len(part) > 1:
                for item in part:
                    self._process([item])
                return
            letters = {part[0].place: str(error) if isinstance(error, BackendError) else repr(error)}
        self._give_up(part, letters)
        self._progress.done(part)

    def _carry_out(self, part: list[Task]) -> dict[Place, str]:
        """Returns the reasons for which some can never be carried out."""
        letters = {item.place: item.wanted.reason for item in part if isinstance(item.wanted, Unreadable)}
        chunks = [item.wanted for item in part if isinstance(item.wanted, CreateCoupons)]
        touched = create_all(self._store, chunks, self._mint) if chunks else {}
        touched |= self._change([item for item in part if isinstance(item.wanted, Command)], letters)
        touched |= self._store.get_many(_owed(part, REINDEX) - touched.keys())
        self._progress.stored(touched)
        self._invalidation.invalidate(sorted(_owed(part, INVALIDATE)))
        if chunks:
            log.info("created", operations=_sizes(chunks))
        return letters

    def _change(self, tasks: list[Task], letters: dict[Place, str]) -> dict[str, Coupon]:
        """Settle the commands; the coupons as they are now."""
        if not tasks:
            return {}
        commands = [item.wanted for item in tasks if isinstance(item.wanted, Command)]
        settled = change(self._store, commands, [self._may_wait(item) for item in tasks])
        suspects = set()
        for item, command, verdict in zip(tasks, commands, settled.verdicts, strict=True):
            if verdict is Verdict.WAITING:
                self._waiting.setdefault(item.place, Waiting(item, self._clock()))
                continue
            self._waiting.pop(item.place, None)
            if verdict is None:
                letters[item.place] = "the store has no such coupon"
            elif verdict is not Verdict.APPLIED or not command.reserved:
                suspects.add(command.code)  # it lost, or may have before we died; or the cache does not know of it
            if verdict is Verdict.REJECTED:
                log.warning("rejected", operation=command.operation, kind=command.kind, code=command.code)
        applied = [c.operation for c, v in zip(commands, settled.verdicts, strict=True) if v is Verdict.APPLIED]
        log.info("applied", operations=applied, seen=settled.verdicts.count(Verdict.SEEN), waiting=len(self._waiting))
        self._invalidation.invalidate(sorted(suspects))
        return settled.coupons

    def _may_wait(self, item: Task) -> bool:
        """Whether its predecessor may still come: on another topic, for so long."""
        if self._ordered:
            return False
        waiting = self._waiting.get(item.place)
        return waiting is None or self._clock() - waiting.since < self._patience_ms

    def _give_up(self, part: list[Task], letters: dict[Place, str]) -> None:
        """Put what can never be carried out aside; many in a row are no bad data but a bad deployment."""
        in_a_row = self._letters_in_a_row
        for item in part:
            in_a_row = in_a_row + 1 if item.place in letters else 0
            if in_a_row >= self._letters_max:
                raise DeploymentError(f"{in_a_row} dead letters in a row: {letters[item.place]}")
        given_up = [item for item in part if item.place in letters]
        at = self._clock()
        self._queue.publish([dead_letters.encode(item.delivery, letters[item.place], at) for item in given_up])
        self._letters_in_a_row = in_a_row
        for item in given_up:
            log.error("dead letter", place=item.place, reason=letters[item.place])

    def _poll_s(self, poll_s: float) -> float:
        """How long to wait for messages: not beyond what else is to be done."""
        if self._turns.are_due:
            return 0
        if self._waiting:
            return POLL_WHILE_WAITING_S
        due_in_ms = self._progress.due_in_ms()
        return poll_s if due_in_ms is None else min(poll_s, IDLE_S, due_in_ms / 1000)

    def _tell(self) -> None:
        self._progress.tell(self._waiting.keys())

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
        if isinstance(item.wanted, Owed) and item.wanted.topic == topic
        for code in item.wanted.codes
    }


def _sizes(chunks: list[CreateCoupons]) -> Counter[str]:
    """How many coupons of each operation."""
    sizes: Counter[str] = Counter()
    for chunk in chunks:
        sizes[chunk.operation] += chunk.size
    return sizes
