"""A whole service in one thread: web processes, workers, clients, and the operator who starts again what died."""

import json
import random as global_random
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from random import Random
from traceback import format_exception
from types import SimpleNamespace

from backends.cache.memory import MemoryCache
from backends.search.memory import MemorySearch
from coupon.acceptance import cache_losses as losses
from coupon.acceptance import uncached as unreserved
from coupon.acceptance.creation_progress import CreationProgress
from coupon.acceptance.operations import Operations
from coupon.acceptance.service import CommandService
from coupon.applying import batch
from coupon.bulk.scan import pages
from coupon.domain import model, protocol
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import DeploymentError, Malformed
from coupon.domain.model import Coupon
from coupon.domain.serialization import decode_codes, decode_command
from coupon.domain.topics import DEAD_LETTERS, GROUP, INVALIDATE, OUTBOX, all_topics, command_topics
from coupon.ports.search import Query
from coupon.runtime import heartbeat
from coupon.runtime.cache_entries import Confirmed, Entries, cache_key
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.worker import worker as drain
from coupon.worker.worker import Worker, join
from tests.proof.checker import NOT_YET_KEPT, Violation, violations
from tests.proof.record import Evidence, Observed, Request
from tests.proof.simulation.clients import Client, Web, outcome_of
from tests.proof.simulation.faults import NOT_YET, SHARE_OF_FORGED, SHARE_OF_RIVALS, Fault, Faults
from tests.proof.simulation.mishaps import Operator
from tests.proof.simulation.process import Group, Process
from tests.proof.simulation.restoring import is_restored
from tests.proof.simulation.scheduler import NoRest, Scheduler
from tests.proof.simulation.signing import Signing, nobody_forged
from tests.proof.simulation.witnesses import WitnessCache, WitnessQueue, WitnessStore

START_MS = 1_795_000_000_000
LEASE_S = 10
BUSY_MAX_MS, REST_MAX_MS = 3_600_000, 600_000
LOOKED_AT = 10
SELDOM_S = 0.4
"""How often a process without the cache asks how far the workers are."""
SHORT_TTL_S = (10, 20, 30)
SHARES_OF_WAITS = (0, 0.3, 1)
REMEMBERED, REMEMBERED_SHORTLY = (100, 200), ((8, 2), (100, 2), (100, 1))
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


def run(seed: int, settings: Settings, trace: Callable[[str], None] | None = None, *, everything: bool = False) -> Run:
    """Simulate the seed's world, and judge it; ``trace`` is told of every call. ``everything``: also the faults that
    the service does not bear, and the promises that it does not keep, yet."""
    world = World(seed, settings, without=() if everything else NOT_YET)
    world.scheduler.trace = trace
    with no_chance(seed):
        try:
            found = world.live()
        finally:
            world.scheduler.close()
    if not everything:
        found = [violation for violation in found if violation.promise not in NOT_YET_KEPT]
    return Run(seed, world.evidence, world.faults, world.scheduler.turns, found)


@contextmanager
def limits(part_max: int, round_max_ms: int, remembered: tuple[int, int]) -> Iterator[None]:
    """Small limits of the worker's batches, and of what a coupon remembers (commands, rejections).

    So a small run meets what otherwise only large ones meet.
    """
    kept = batch.PART_MAX, drain.ROUND_MAX_MS, model.HISTORY_MAX, protocol.REJECTIONS_MAX
    batch.PART_MAX, drain.ROUND_MAX_MS = part_max, round_max_ms
    pause_max_s, unreserved.PAUSE_MAX_S = unreserved.PAUSE_MAX_S, SELDOM_S
    _remember(*remembered)
    try:
        yield
    finally:
        batch.PART_MAX, drain.ROUND_MAX_MS = kept[:2]
        unreserved.PAUSE_MAX_S = pause_max_s
        _remember(*kept[2:])


@contextmanager
def no_chance(seed: int) -> Iterator[None]:
    """What the code draws from other random numbers than ours follows from the seed, too."""
    drawn, numbers, kept = Random(seed), count(1), (losses.secrets, heartbeat.new_name)
    global_random.seed(seed)  # the worker's jitter
    losses.secrets = SimpleNamespace(token_hex=lambda size: drawn.randbytes(size).hex())  # type: ignore[assignment]
    heartbeat.new_name = lambda: f"worker:simulated:0:{next(numbers)}"
    try:
        yield
    finally:
        losses.secrets, heartbeat.new_name = kept


def _remember(commands: int, rejections: int) -> None:
    model.HISTORY_MAX, protocol.REJECTIONS_MAX = commands, rejections
    batch.COMMANDS_A_COUPON_MAX = protocol.AHEAD_MAX = commands // 2


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


class Broken(Exception):
    """Something failed that never may."""


def confirmed(entries: Entries, code: str, value: bytes) -> Coupon | None:
    """The coupon that a cache entry holds as accepted; None for any other entry, and for what is none of ours."""
    try:
        entry = entries.decode(code, value)
    except Malformed:
        return None
    return entry.coupon if isinstance(entry, Confirmed) else None


def _ends_the_run(failed: tuple[str, Exception]) -> bool:
    return not isinstance(failed[1], DeploymentError)


class World:
    """``live`` is a run from beginning to end."""

    def __init__(self, seed: int, settings: Settings, without: Collection[Fault] = NOT_YET) -> None:
        self.random = Random(seed)
        choose = self.random.choice
        self.faults = Faults(self.random, without)
        self.has_rival = not self.faults.mild and Random(f"rival {seed}").random() < SHARE_OF_RIVALS
        """Whether the first web process is cut off from the cache, and all clients want the same few coupons."""
        self.waits = Random(f"waits {seed}")
        self.share_of_waits = self.waits.choice(SHARES_OF_WAITS)
        """Of the commands, those whose clients wait for the outcome."""
        self.alone = choose((True, False)) and not self.has_rival
        """Whether each client has coupons of its own."""
        self.settings = replace(
            settings,
            topics=choose(("single", "single", "per-command")),
            batch_max=choose((1, 2, 5, 50)),
            predecessor_wait_s=600,  # where four calls in ten fail, a batch took 146 s
            reservation_wait_ms=choose((50, 300)),
            cache_ttl_s=choose(SHORT_TTL_S) if self.faults.strikes(Fault.SHORT_TTL) else settings.cache_ttl_s,
        )
        self.remembered = REMEMBERED
        if self.faults.strikes(Fault.SHORT_MEMORY, harsh=False):
            self.remembered = choose(REMEMBERED_SHORTLY[0 if self.alone else 1 :])
        self.part_max, self.round_max_ms = choose((2, 1_000)), choose((10, 5_000))
        self.scheduler = Scheduler(self.random, START_MS)
        self.evidence = Evidence(settings.secret, ordered=self.settings.topics == "single")
        self.backends = self._backends(partitions=choose((1, 2, 4)), servers=choose((1, 1, 2)))
        self.signing = Signing(settings.secret, self.backends.queue, self.backends.store)
        self.forger = Random(f"forger {seed}")
        self.is_forged = self.forger.random() < SHARE_OF_FORGED
        """Whether somebody without a key writes into the topics."""
        self.codes: list[str] = []
        """Those that clients know of."""
        self.skews = [choose((0, 0, 0, -5_000, 5_000)) for _ in range(8)]
        self.webs = [self.web(number) for number in range(choose((1, 2, 3)) + self.has_rival)]
        self.stops: dict[int, Stop] = {}
        self.workers = [self.worker(number) for number in range(choose((1, 2, 3)))]
        self.clients = [Client(f"client {number}", self, self.evidence) for number in range(choose((2, 3, 5)))]
        self.pauses_ms = choose(((0, 0, 1, 10), (0, 1, 10, 100, 2_000)))
        """Between two requests of a client."""
        self.accepted: list[Request] = []
        code_deriver, progress = CodeDeriver(settings.secret), MemoryCache(lambda: 0.0)
        self.operations = Operations(
            code_deriver, self.backends.store, CreationProgress(code_deriver, self.backends.store, progress)
        )
        """Past all faults."""
        self.entries = Entries(code_deriver)
        self.poison: set[tuple[str, bytes]] = set()
        self.looks = 0
        self.failed: list[Violation] = []
        self.backup: dict[str, Coupon] = {}
        """The store as it once was."""

    def _backends(self, partitions: int, servers: int) -> Backends:
        def clock_s() -> float:
            return self.scheduler.now / 1000

        backends = Backends(
            cache=WitnessCache(clock_s, servers),
            queue=WitnessQueue(partitions, LEASE_S, clock_s),
            store=WitnessStore(clock_s),
            search=MemorySearch(),
        )
        backends.store.create()
        backends.search.create()
        backends.queue.create(all_topics(self.settings.topics))
        return backends

    def web(self, number: int) -> Web:
        name, skew_ms = f"web {number}", self.skews[number]
        process = Process(name, self.scheduler, self.faults, self.backends, self.signing.of_process, skew_ms, web=True)
        if self.has_rival and number == 0:
            process.cut_off = True
            self.faults.note(Fault.CUT_OFF)
        service = CommandService(
            process.backends, self.settings, process.clock, process.sleep, process.timer, partial(Group, process)
        )
        return Web(process, service)

    def worker(self, number: int) -> Process:
        name, skew_ms = f"worker {number}", self.skews[-1 - number]
        process = Process(name, self.scheduler, self.faults, self.backends, self.signing.of_process, skew_ms, web=False)
        consumer = join(process.backends, self.settings)
        worker = Worker(process.backends, self.settings, consumer, clock=process.clock, timer=process.timer)
        stop = self.stops[number] = Stop(process)
        process.spawn("", lambda: worker.run(stop))  # type: ignore[arg-type]
        return process

    def live(self) -> list[Violation]:
        with limits(self.part_max, self.round_max_ms, self.remembered):
            return self._live()

    def _live(self) -> list[Violation]:
        self.scheduler.spawn("operator", Operator(self).work)
        clients = [self.scheduler.spawn(client.name, client.live) for client in self.clients]
        try:
            self._run(lambda: all(task.done for task in clients), BUSY_MAX_MS)
            self.faults.calm()
            self._run(self._rests, REST_MAX_MS)
            self._wait(QUIET_MS)
            self._collect()
            judged = [
                *violations(self.evidence, everything=True),
                *self._yes_was_yes(),
                *self._owed_once(),
                *self._is_restored(),
                *nobody_forged(self.evidence.coupons.values()),
            ]
            return [*self.failed, *judged, *self._goes_on()]
        except NoRest as error:
            return [*self.failed, Violation("it comes to rest", str(error))]
        except Broken as error:
            return [*self.failed, Violation("nothing breaks", str(error))]

    def _run(self, until: Callable[[], bool], limit_ms: float) -> None:
        """Start a worker again that stopped for what it found. Any other error that no backend made ends the run.

        Such an error is one of the simulation, or a 500.
        """
        self.scheduler.run(lambda: until() or any(map(_ends_the_run, self.scheduler.errors)), limit_ms)
        for name, error in self.scheduler.errors:
            if _ends_the_run((name, error)):
                raise Broken(f"{name}: {''.join(format_exception(error)[-3:])}")
            self.failed.append(Violation("no worker stops", f"{name}: {error!r}"))
        self.scheduler.errors.clear()

    def _wait(self, ms: float) -> None:
        end = self.scheduler.now + ms
        self.scheduler.run(lambda: self.scheduler.now >= end, 2 * ms)

    def _rests(self) -> bool:
        """Nothing is on its way to a backend, or in the queue. Asked at every turn: looked at now and then."""
        self.looks += 1
        if self.looks % LOOKED_AT:
            return False
        topics = [*command_topics(self.settings.topics), *OUTBOX]
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
        evidence = self.evidence
        self._collect_the_queue()
        evidence.coupons = self._whole()
        evidence.documents = {d["couponCode"]: d for d in self.backends.search.find(Query(), 10_000)}
        for code in evidence.coupons:
            cached = self.backends.cache.get(cache_key(code))
            entry = confirmed(self.entries, code, cached.value) if cached is not None else None
            if entry is not None:
                evidence.cached[code] = entry
        now = self.scheduler.now
        for address in dict.fromkeys(request.address for request in self.accepted):
            found = outcome_of(self.operations, address)
            assert found is not None
            evidence.observed.append(Observed(address, now, now, *found))
        evidence.applied = self.backends.store.applied  # type: ignore[attr-defined]
        evidence.ahead = self.backends.store.ahead  # type: ignore[attr-defined]
        evidence.remembered = self.remembered[1]
        evidence.well = self.faults.cache_was_well
        evidence.holds = self.settings.reservation_ttl_s * 1000

    def _collect_the_queue(self) -> None:
        evidence, queue = self.evidence, self.signing.queue
        aside = set()
        for topic in command_topics(self.settings.topics):
            for delivery, raw in zip(queue.browse(topic), self.backends.queue.browse(topic), strict=True):
                try:
                    command = decode_command(delivery.value)
                except Malformed:  # a letter, or it is told
                    continue
                evidence.commands.append(command)
                landed = self.backends.queue.landed[raw.value]  # type: ignore[attr-defined]
                evidence.landed.setdefault(command, landed)
        for delivery in queue.browse(INVALIDATE):
            if (INVALIDATE, delivery.value) not in self.poison and not delivery.forged:
                evidence.owed_to_the_cache.update(decode_codes(delivery.value))
        for delivery in queue.browse(DEAD_LETTERS):
            letter = json.loads(delivery.value or b'{"forged": true}')
            if letter.get("forged"):
                continue
            planted = letter.get("topic"), b64decode(letter.get("value", ""))
            aside.add(planted)
            if planted not in self.poison:
                evidence.dead_letters.append(delivery.value.decode())
        evidence.dead_letters += [f"{planted} was not dead-lettered" for planted in self.poison - aside]

    def _whole(self) -> dict[str, Coupon]:
        """The store; each coupon with all that it ever remembered."""
        whole: dict[str, Coupon] = self.backends.store.whole  # type: ignore[attr-defined]
        return {coupon.code: whole[coupon.code] for page in pages(self.backends.store) for coupon in page}

    def _owed_once(self) -> Iterator[Violation]:
        """What search is owed is written down when it was applied, and not again when search still is away."""
        if self.settings.topics == "single" and self.faults.owed > self.faults.commands_polled:
            what = f"{self.faults.owed} times for {self.faults.commands_polled} messages"
            yield Violation("what is owed is put into the queue once", what)

    def _is_restored(self) -> Iterator[Violation]:
        before = self.backup if self.random.random() < 0.5 else {}
        yield from is_restored(before, self.backends.store, self.signing.queue, self.settings, self.evidence.commands)  # type: ignore[arg-type]
