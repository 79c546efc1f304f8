"""What happens to a whole service from outside, while its operator starts again what died."""

from typing import TYPE_CHECKING

from coupon.bulk.reindex import reindex
from coupon.bulk.scan import pages
from coupon.domain.topics import DEAD_LETTERS, OUTBOX, REJECTIONS, command_topics
from coupon.ports.queue import Message
from coupon.runtime.cache_entries import cache_key
from tests.proof.record import Observed
from tests.proof.simulation.clients import outcome_of
from tests.proof.simulation.faults import COMMITS, DOCUMENTS, RATE_OF_FORGED, Fault
from tests.proof.simulation.planted import UNREADABLE, entries, forged
from tests.proof.simulation.witnesses import WitnessCache, WitnessStore

if TYPE_CHECKING:
    from tests.proof.simulation.world import World

OUTAGE_MS = (1_000, 10_000, 60_000)
STALL_MS = (2_000, 10_000, 30_000)
STOPPED = 1e9
SLOW_MS = (200, 1_000, STOPPED)
"""How long each call of a slow worker takes."""
JUMPS_MS = (-7_200_000, -45_000, 700_000, 7_200_000, 90_000_000)
"""By how much a clock is set."""
POISON_MAX = 10
"""Of a run: a partition with twice as many in a row is left alone until somebody looks at it."""
REINDEX_SHARE, BACKUP_SHARE, GLANCES = 0.002, 0.02, 1


class Operator:
    """``work`` is a task of the world's; every look draws what goes wrong, and mends what did."""

    def __init__(self, world: "World") -> None:
        self._world, self._random = world, world.random
        self._faults, self._scheduler, self._backends = world.faults, world.scheduler, world.backends
        self._wipe_at = float("inf")
        """In the middle of a stall."""

    def work(self) -> None:
        while True:
            self._scheduler.sleep(self._random.choice((10, 100, 1_000)))
            self._hurt_the_cache()
            self._hurt_backends()
            self._forge()
            self._hurt_processes()
            self._mend()
            self._look()

    def _hurt_the_cache(self) -> None:
        strikes, codes, cache = self._faults.strikes, self._world.codes, self._backends.cache
        assert isinstance(cache, WitnessCache)
        wiped = strikes(Fault.WIPE)
        if self._wipe_at <= self._scheduler.now and Fault.STALL in self._faults.rates:
            wiped, self._wipe_at = True, float("inf")
            self._faults.note(Fault.WIPE)
        if wiped:
            place = cache.place(str(self._random.random()))
            self._scheduler.tell("the cache is wiped:", place)
            cache.wipe(place)
        for key in cache.held_keys() if Fault.EVICT in self._faults.rates else ():
            if strikes(Fault.EVICT):
                self._scheduler.tell("evicted:", key)
                cache.evict(key)
        if codes and strikes(Fault.PLANT):
            self._plant(self._random.choice(codes))

    def _plant(self, code: str) -> None:
        coupon = self._backends.store.get_many([code]).get(code)
        others = [self._backends.cache.get(cache_key(other)) for other in self._world.codes if other != code]
        if coupon is None:
            return
        value = self._random.choice(entries(coupon, [other.value for other in others if other]))
        self._scheduler.tell("planted", code, value)
        self._backends.cache.put(cache_key(code), value, 3_600)

    def _hurt_backends(self) -> None:
        """For all processes."""
        choose, outages = self._random.choice, self._faults.outages
        if self._faults.strikes(Fault.OUTAGE, harsh=False):
            role = choose(("store", "search") if self._faults.mild else ("cache", "queue", "store", "search"))
            outages[role] = self._scheduler.now + choose(OUTAGE_MS)
        if self._faults.strikes(Fault.READ_ONLY, harsh=False):
            outages[DOCUMENTS] = self._scheduler.now + choose(OUTAGE_MS)
        if self._faults.strikes(Fault.NO_COMMIT, harsh=False):
            outages[COMMITS] = self._scheduler.now + choose(OUTAGE_MS)
        if len(self._world.poison) < POISON_MAX and self._faults.strikes(Fault.POISON, harsh=False):
            topic = choose((*command_topics(self._world.settings.topics), *OUTBOX))
            value = choose(UNREADABLE.get(topic, UNREADABLE[""]))
            if (topic, value) in self._world.poison:
                return
            self._world.poison.add((topic, value))
            self._world.signing.queue.publish([Message(topic, choose(("", *self._world.codes[:3])), value)])

    def _forge(self) -> None:
        """Past the service: somebody can write to the queue, and has no key."""
        world, random = self._world, self._world.forger
        if not (world.is_forged and world.codes and self._faults.rates) or random.random() >= RATE_OF_FORGED:
            return
        self._faults.note(Fault.FORGE)
        topics = [*command_topics(world.settings.topics), *OUTBOX, DEAD_LETTERS, REJECTIONS]
        stored = self._backends.store.get_many([random.choice(world.codes)])
        ours = [delivery for topic in topics for delivery in self._backends.queue.browse(topic)]
        messages = forged(random, topics, list(stored.values()), random.sample(ours, min(3, len(ours))))
        self._scheduler.tell("forged", *messages)
        self._backends.queue.publish(messages * random.choice((1, 1, 1, 30)))

    def _hurt_processes(self) -> None:
        processes = [*(web.process for web in self._world.webs), *self._world.workers]
        if self._faults.strikes(Fault.CLOCK, harsh=False):
            self._random.choice(processes).set_clock(self._random.choice(JUMPS_MS))
        if self._scheduler.now > self._faults.stalled[0] and self._faults.strikes(Fault.STALL, harsh=False):
            lasts_ms = self._random.choice(STALL_MS)
            self._faults.stalled = self._scheduler.now + lasts_ms, self._random.choice(SLOW_MS)
            if not self._faults.mild and self._random.random() < 0.5:
                self._wipe_at = self._scheduler.now + self._random.random() * lasts_ms

    def _mend(self) -> None:
        world = self._world
        for number, web in enumerate(world.webs):
            if not web.process.alive:
                world.webs[number] = world.web(number)
        for number, worker in enumerate(world.workers):
            if self._faults.strikes(Fault.TERM, harsh=False):
                world.stops[number].set()
            if worker.has_ended():
                world.workers[number] = world.worker(number)
        if self._random.random() < REINDEX_SHARE:
            reindex(pages(self._backends.store), self._backends.search, lambda _: self._scheduler.sleep(5))

    def _look(self) -> None:
        """At what addresses answer, past all that may be away; and a backup now and then."""
        world, now = self._world, self._scheduler.now
        for request in self._random.sample(world.accepted, min(GLANCES, len(world.accepted))):
            found = outcome_of(world.operations, request.address)
            if found is not None:
                world.evidence.observed.append(Observed(request.address, now, now, *found))
        if self._random.random() < BACKUP_SHARE:
            assert isinstance(world.backends.store, WitnessStore)
            world.backup = world.backends.store.snapshot()
