"""A simulated process: its tasks die together, its clock is its own, and each call to a backend may fail on the way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import OUTBOX, REINDEX
from coupon.ports.cache import Cache
from coupon.ports.group_commit import NotServed
from coupon.ports.queue import Consumer, Delivery, Position, Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.runtime.wiring import Backends
from tests.proof.simulation.faults import COMMITS, DOCUMENTS, Fault, Faults
from tests.proof.simulation.scheduler import Scheduler, Task

TIMEOUT_MS = 1_000
"""After so long a call whose answer does not come is given up."""
LATE_MS = (1, 100, 3_000, 20_000)
FREEZE_MS = (50, 1_000, 9_000, 40_000)
GATHER_S = (0, 0.002, 0.05)
"""How long a group waits for more."""
IMPATIENT = (0.02, 0.3, 1)
"""How often somebody does not wait any longer for the beginning of his group. 1: each is accepted alone."""
CUT_OFF_MS = (0, 10, 100, 500)
AWAY_MS = (100, 2_000, 15_000)
MANY = {"publish", "save_many", "index_many", "delete_many", "write_many"}
"""Of what is done to many, a part may have been done."""
LATE = {*MANY, "add", "replace", "remove"}
NO_IO = {"place"}
ONLY = {"commit": COMMITS, "index_many": DOCUMENTS}
"""The calls that may fail while the backend does all else."""


class Process:
    """``kill`` is kill -9. Its backends are views of the world's, through which faults strike."""

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        faults: Faults,
        backends: Backends,
        signed: Callable[[Queue], Queue],
        skew_ms: int,
        *,
        web: bool,
    ) -> None:
        self.name, self.scheduler, self.faults, self.web = name, scheduler, faults, web
        self.alive = True
        self._skew_ms = skew_ms
        self._boot_ms = -int(scheduler.now) + (len(name) << 24)  # of this process only
        self._tasks: list[Task] = []
        self._away: dict[str, float] = {}
        self.cut_off = False
        """Whether it is slow, and never reaches the cache, as long as there are faults."""
        self.backends = Backends(
            cache=cast(Cache, View(self, "cache", backends.cache)),
            queue=signed(cast(Queue, View(self, "queue", backends.queue))),
            store=cast(Store, View(self, "store", backends.store)),
            search=cast(Search, View(self, "search", backends.search)),
        )

    def clock(self) -> int:
        return int(self.scheduler.now) + self._skew_ms

    def timer(self) -> int:
        """Never set, unlike the clock."""
        return int(self.scheduler.now) + self._boot_ms

    def set_clock(self, by_ms: int) -> None:
        self._skew_ms += by_ms

    def sleep(self, seconds: float) -> None:
        self.scheduler.sleep(seconds * 1000)

    def spawn(self, name: str, work: Callable[[], Any]) -> Task:
        task = self.scheduler.spawn(f"{self.name} {name}", work)
        self._tasks = [other for other in self._tasks if not other.done] + [task]
        return task

    def has_ended(self) -> bool:
        """Whether nothing of it goes on: it was killed, or all that it had to do is done."""
        return all(task.done for task in self._tasks)

    def kill(self) -> None:
        self.alive = False
        current = self.scheduler.current
        for task in sorted(self._tasks, key=lambda task: task is current):
            if not task.done:
                self.scheduler.kill(task)

    def step(self) -> None:
        """Between any two calls, others act, and the process may be stopped or killed."""
        choose = self.scheduler.random.choice
        pause = choose((0, 0, 0, 1, 5))
        if self.cut_off and self.faults.rates:
            pause = choose(CUT_OFF_MS)
        if self.faults.strikes(Fault.FREEZE, harsh=self.web):
            pause = choose(FREEZE_MS)
            self.scheduler.tell("is stopped for ms:", pause)
        until, slow_ms = self.faults.stalled
        if not self.web and until > self.scheduler.now:
            pause = min(until - self.scheduler.now, slow_ms)
        if self.faults.strikes(Fault.CRASH, harsh=self.web):
            self.scheduler.tell("is killed")
            self.kill()
        self.scheduler.sleep(pause)

    def is_harsh(self, role: str) -> bool:
        """Whether a fault on the way there may let two have what only one can."""
        return role == "cache" or (self.web and role == "queue")

    def is_away(self, role: str) -> bool:
        """Whether the way to that backend is broken, for this process."""
        if self.faults.strikes(Fault.AWAY, harsh=self.is_harsh(role)):
            self._away[role] = self.scheduler.now + self.scheduler.random.choice(AWAY_MS)
        until = max(self._away.get(role, 0), self.faults.outages.get(role, 0))
        is_cut_off = self.cut_off and role == "cache"
        return bool(self.faults.rates) and (is_cut_off or until > self.scheduler.now)

    def strikes(self, fault: Fault, role: str) -> bool:
        """Whether it happens on the way there."""
        strikes = self.faults.strikes(fault, harsh=self.is_harsh(role))
        self.faults.cache_was_well &= not (strikes and role == "cache")
        return strikes


class Group:
    """As ``GroupCommit``, by simulated time."""

    def __init__(self, process: Process, serve: Callable[[Sequence[Any], float], None]) -> None:
        self._process, self._serve = process, serve
        self._impatience = process.scheduler.random.choice(IMPATIENT)
        self._waiting: list[Any] = []
        self._served: list[Any] = []
        """What is being served."""

    def do(self, work: Any, deadline: float, begin_by: float | None = None, _patience: Any = None) -> None:
        self._waiting.append(work)
        while work in self._waiting:
            if begin_by is not None and self._process.scheduler.random.random() < self._impatience:
                self._waiting.remove(work)
                raise NotServed
            if not self._served:
                self._lead(work, deadline)
                return
            self._process.sleep(0.001)
        while work in self._served:
            self._process.sleep(0.001)

    def _lead(self, work: Any, deadline: float) -> None:
        self._served = [work]
        try:
            self._process.sleep(self._process.scheduler.random.choice(GATHER_S))
            self._served, self._waiting = self._waiting, []
            self._serve(self._served, deadline)
        finally:
            self._served = []


class View:
    """A backend as a process sees it."""

    def __init__(self, process: Process, role: str, backend: Any) -> None:
        self._process, self._role, self._backend = process, role, backend

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        return cast(Consumer, ConsumerView(self._process, self._backend.consumer(topics, group)))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name in NO_IO:
            return method

        def call(*arguments: Any) -> Any:
            return exchange(self._process, self._role, name, method, arguments)

        setattr(self, name, call)
        return call


class ConsumerView:
    """A consumer as a worker sees it: what it polls is in order within each partition, and in no other."""

    def __init__(self, process: Process, consumer: Consumer) -> None:
        self._process, self._consumer = process, consumer
        self.pause, self.rewind = consumer.pause, consumer.rewind  # no I/O

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        found = self._ask(lambda: self._consumer.poll(max_messages, 0))
        if not found and timeout_s:
            self._process.sleep(timeout_s)
            found = self._consumer.poll(max_messages, 0)  # an idle worker's most frequent call: nothing goes wrong
            found = self._ask(lambda: found) if found else found
        return list(merged(found, self._process.scheduler))

    def commit(self, positions: Mapping[Position, int]) -> None:
        exchange(self._process, "queue", "commit", self._consumer.commit, (positions,))

    def close(self) -> None:
        self._process.step()
        self._consumer.close()

    def _ask(self, poll: Callable[[], list[Delivery]]) -> list[Delivery]:
        found: list[Delivery] = exchange(self._process, "queue", "poll", poll, ())
        self._process.faults.commands_polled += sum(delivery.topic not in OUTBOX for delivery in found)
        return found


def merged(deliveries: Iterable[Delivery], scheduler: Scheduler) -> Iterable[Delivery]:
    """The partitions' deliveries, each in its order, shuffled into each other."""
    partitions: dict[Position, list[Delivery]] = {}
    for delivery in deliveries:
        partitions.setdefault(Position(delivery.topic, delivery.partition), []).append(delivery)
    while partitions:
        position = scheduler.random.choice(list(partitions))
        yield partitions[position].pop(0)
        if not partitions[position]:
            del partitions[position]


def exchange(process: Process, role: str, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """One call, with whatever happens to it on its way there and back."""
    process.step()
    tell = process.scheduler.tell
    try:
        answer = _applied(process, role, name, method, arguments)
    except BackendUnavailable as error:
        tell(f"{role}.{name}", *arguments, error)
        raise
    tell(f"{role}.{name}", *arguments, answer)
    process.step()
    if process.strikes(Fault.LOST_REPLY, role):
        tell(f"{role}.{name}: the reply was lost")
        raise BackendUnavailable(f"{name}: connection reset")
    process.faults.owed += name == "publish" and any(message.topic == REINDEX for message in arguments[0])
    return answer


def _applied(process: Process, role: str, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    scheduler, is_publish = process.scheduler, name == "publish"
    if process.is_away(role) or process.strikes(Fault.LOST_REQUEST, role):
        process.faults.cache_was_well &= role != "cache"
        raise BackendUnavailable(f"{name}: no connection")
    if process.faults.outages.get(ONLY.get(name, ""), 0) > scheduler.now:
        raise BackendUnavailable(f"{name}: refused")
    if is_publish and process.web and process.faults.strikes(Fault.RUN_OUT):
        process.kill()
        if scheduler.random.random() < 0.5:
            scheduler.sleep(0)  # it never comes back from here
    if name in LATE and process.strikes(Fault.LATE, role):
        apply_later(scheduler, method, arguments)
        scheduler.sleep(TIMEOUT_MS)
        raise BackendUnavailable(f"{name}: timed out")
    if name in MANY and process.strikes(Fault.PART, role):
        many = list(arguments[0])
        method(many[: len(many) // 2] if is_publish else scheduler.random.sample(many, len(many) // 2))
        raise BackendUnavailable(f"{name}: broke off")
    answer = method(*arguments)
    if is_publish and process.strikes(Fault.TWICE, role):
        apply_later(scheduler, method, arguments)
    return answer


def apply_later(scheduler: Scheduler, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What was sent is on its way, whatever becomes of the sender."""
    sent = [list(argument) if isinstance(argument, (list, set)) else argument for argument in arguments]

    def later() -> None:
        scheduler.sleep(scheduler.random.choice(LATE_MS))
        scheduler.tell(f"{method.__name__}", *sent)
        method(*sent)

    scheduler.spawn("late", later)
