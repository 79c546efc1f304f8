"""A whole service in one thread: web processes, workers, clients, and the operator who starts again what died."""

import random as global_random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.search.memory import MemorySearch
from backends.store.memory import MemoryStore
from coupon import batch, drain
from coupon.drain import Worker
from coupon.model import Coupon
from coupon.ports.search import Query
from coupon.reindexing import reindex
from coupon.reservations import CONFIRMED, cache_key
from coupon.scanning import pages
from coupon.service import CommandService
from coupon.settings import Settings
from coupon.topics import DEAD_LETTERS, GROUP, OWED, all_topics, command_topics
from coupon.wire import decode_command, decode_coupon
from coupon.wiring import Backends
from tests.proof.checker import Violation, violations
from tests.proof.record import Evidence, Request
from tests.proof.simulation.clients import Client, Web
from tests.proof.simulation.faults import Fault, Faults
from tests.proof.simulation.process import Process
from tests.proof.simulation.scheduler import NoRest, Scheduler

START_MS = 1_795_000_000_000
LEASE_S = 10
BUSY_MAX_MS, REST_MAX_MS = 3_600_000, 600_000
OUTAGE_MS = (1_000, 10_000, 120_000)
QUIET_MS = 10_000
"""The projections have so long to catch up when everything has come to rest."""


@dataclass
class Run:
    """A seed, what happened, and what is wrong with it."""

    seed: int
    evidence: Evidence
    faults: Faults
    turns: int
    violations: list[Violation]


def run(seed: int, settings: Settings, trace: Callable[[str], None] | None = None) -> Run:
    """Simulate the seed's world, and judge it; ``trace`` is told of every call."""
    global_random.seed(seed)  # the worker's jitter
    world = World(seed, settings)
    world.scheduler.trace = trace
    try:
        found = world.live()
    finally:
        world.scheduler.close()
    return Run(seed, world.evidence, world.faults, world.scheduler.turns, found)


@contextmanager
def limits(part_max: int, round_max_ms: int) -> Iterator[None]:
    """Small ones of the worker's batches, so that a small run meets what else only large ones do."""
    kept = batch.PART_MAX, drain.ROUND_MAX_MS
    batch.PART_MAX, drain.ROUND_MAX_MS = part_max, round_max_ms
    try:
        yield
    finally:
        batch.PART_MAX, drain.ROUND_MAX_MS = kept


class Stop:
    """A worker's ``threading.Event``, by simulated time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float) -> bool:
        self._process.sleep(timeout)
        return self._set


class World:
    """``live`` is a run from beginning to end."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.random = Random(seed)
        choose = self.random.choice
        self.settings = replace(
            settings,
            topics=choose(("single", "single", "per-command")),
            batch_max=choose((1, 2, 5, 50)),
            predecessor_wait_s=120,
        )
        self.part_max, self.round_max_ms = choose((2, 1_000)), choose((10, 5_000))
        self.scheduler = Scheduler(self.random, START_MS)
        self.faults = Faults(self.random)
        self.evidence = Evidence(settings.secret, ordered=self.settings.topics == "single")
        self.backends = self._backends(partitions=choose((1, 2, 4)))
        self.skews = [choose((0, 0, 0, -5_000, 5_000)) for _ in range(8)]
        self.webs = [self._web(number) for number in range(choose((1, 2, 3)))]
        self.stops: dict[int, Stop] = {}
        self.workers = [self._worker(number) for number in range(choose((1, 2, 3)))]
        self.clients = [Client(f"client {number}", self, self.evidence) for number in range(choose((2, 3, 5)))]
        self.pauses_ms = choose(((0, 0, 1, 10), (0, 1, 10, 100, 2_000)))
        """Between two requests of a client."""
        self.codes: list[str] = []
        """Those that clients know of."""

    def _backends(self, partitions: int) -> Backends:
        def clock_s() -> float:
            return self.scheduler.now / 1000

        backends = Backends(
            cache=MemoryCache(clock_s),
            queue=MemoryQueue(partitions, LEASE_S, clock_s),
            store=MemoryStore(),
            search=MemorySearch(),
        )
        backends.store.create()
        backends.search.create()
        backends.queue.create(all_topics(self.settings.topics))
        return backends

    def _web(self, number: int) -> Web:
        process = Process(f"web {number}", self.scheduler, self.faults, self.backends, self.skews[number], web=True)
        service = CommandService(process.backends, self.settings, process.clock, process.sleep)
        return Web(process, service)

    def _worker(self, number: int) -> Process:
        process = Process(
            f"worker {number}", self.scheduler, self.faults, self.backends, self.skews[-1 - number], web=False
        )
        worker = Worker(process.backends, self.settings, clock=process.clock, timer=lambda: int(self.scheduler.now))
        stop = self.stops[number] = Stop(process)
        process.spawn("", lambda: worker.run(stop))  # type: ignore[arg-type]
        return process

    def live(self) -> list[Violation]:
        with limits(self.part_max, self.round_max_ms):
            return self._live()

    def _live(self) -> list[Violation]:
        self.scheduler.spawn("operator", self._operate)
        clients = [self.scheduler.spawn(client.name, client.live) for client in self.clients]
        try:
            self._run(lambda: all(task.done for task in clients), BUSY_MAX_MS)
            self.faults.calm()
            self._run(self._rests, REST_MAX_MS)
            self._wait(QUIET_MS)
            self._collect()
            return [*violations(self.evidence), *self._yes_was_yes(), *self._goes_on()]
        except NoRest as error:
            return [Violation("it comes to rest", str(error))]

    def _run(self, until: Callable[[], bool], limit_ms: float) -> None:
        """An error that no backend made is one of the simulation, or a 500, or a worker that ended: it ends the run."""
        self.scheduler.run(lambda: until() or bool(self.scheduler.errors), limit_ms)
        for name, error in self.scheduler.errors:
            raise AssertionError(f"{name} failed") from error

    def _wait(self, ms: float) -> None:
        end = self.scheduler.now + ms
        self.scheduler.run(lambda: self.scheduler.now >= end, 2 * ms)

    def _operate(self) -> None:
        """Starts again what died, wipes the cache, and builds search anew now and then."""
        while True:
            self.scheduler.sleep(self.random.choice((10, 100, 1_000)))
            wiped = self.faults.strikes(Fault.WIPE)
            lost = [code for code in self.codes if wiped or self.faults.strikes(Fault.EVICT)]
            self.backends.cache.delete_many(map(cache_key, lost))
            if self.faults.strikes(Fault.OUTAGE, harsh=False):
                role = self.random.choice(
                    ("store", "search") if self.faults.mild else ("cache", "queue", "store", "search")
                )
                self.faults.outages[role] = self.scheduler.now + self.random.choice(OUTAGE_MS)
            for number, web in enumerate(self.webs):
                if not web.process.alive:
                    self.webs[number] = self._web(number)
            for number, worker in enumerate(self.workers):
                if self.faults.strikes(Fault.TERM, harsh=False):
                    self.stops[number].set()
                if worker.has_ended():
                    self.workers[number] = self._worker(number)
            if self.random.random() < 0.002:
                reindex(pages(self.backends.store), self.backends.search, lambda _: self.scheduler.sleep(5))

    def _rests(self) -> bool:
        """Nothing is on its way to a backend, or in the queue."""
        topics = [*command_topics(self.settings.topics), *OWED]
        return not self.scheduler.goes_on("late", "web") and self.backends.queue.lag(topics, GROUP) == 0

    def _yes_was_yes(self) -> Iterator[Violation]:
        """With a cache, a queue and web processes that did not fail, nobody who was told yes loses."""
        for coupon in self.evidence.coupons.values() if self.faults.mild else ():
            for rejection in coupon.rejections:
                yield Violation("yes is yes while the cache is well", f"{rejection} in {coupon}")

    def _goes_on(self) -> Iterator[Violation]:
        """Whatever happened before, a command that a coupon's state allows is accepted and applied."""
        client = Client("last", self, Evidence(self.settings.secret))
        coupons = self.backends.store.get_many(self.codes).values()
        task = self.scheduler.spawn(client.name, lambda: client.touch_all(coupons))
        self._run(lambda: task.done and self._rests(), REST_MAX_MS)
        for request in task.answer:
            if not self._is_applied(request):
                yield Violation("it goes on", f"{request}, {self.backends.store.get_many([request.code])}")

    def _is_applied(self, request: Request) -> bool:
        address = request.accepted and self.webs[0].service.operations.parse(request.address)
        return (
            bool(address)
            and self.backends.store.get_many([request.code])[request.code].last_operation == address.operation
        )

    def _collect(self) -> None:
        evidence, queue = self.evidence, self.backends.queue
        for topic in command_topics(self.settings.topics):
            evidence.commands += [decode_command(delivery.value) for delivery in queue.browse(topic)]
        evidence.letters = [delivery.value.decode() for delivery in queue.browse(DEAD_LETTERS)]
        evidence.coupons = {coupon.code: coupon for coupon in self._stored()}
        evidence.documents = {d["couponCode"]: d for d in self.backends.search.find(Query(), 10_000)}
        for code in evidence.coupons:
            cached = self.backends.cache.get(cache_key(code))
            if cached is not None and cached.value[:1] == CONFIRMED:
                evidence.cached[code] = decode_coupon(cached.value[1:])

    def _stored(self) -> list[Coupon]:
        return [coupon for page in pages(self.backends.store) for coupon in page]
