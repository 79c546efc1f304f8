"""What a look at a creation costs the store, and what it may tell: 2,000 chunks, which arrive in any order."""

import random
from dataclasses import replace

import pytest

from backends.cache.memory import MemoryCache
from backends.store.memory import MemoryStore
from coupon.acceptance.operations import CreationRef, Status
from coupon.acceptance.service import CommandService
from coupon.domain.chunks import split
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import CHUNK, create
from coupon.runtime import settings
from coupon.runtime.wiring import open_backends
from tests.coupons import a_creation

AMOUNT = 1_000_000
CHUNKS = AMOUNT // CHUNK
ADDRESS = CreationRef("o" * 20, AMOUNT)
EACH_MAX = 500
"""Markers that one look may read while one is missing."""


class CountingStore(MemoryStore):
    reads = 0

    def get_many(self, codes):
        codes = list(codes)
        self.reads += len(codes)
        return super().get_many(codes)


class AwayCache(MemoryCache):
    def get(self, key):
        raise BackendUnavailable("injected")


class Desk:
    """The store, the cache, and web processes over them."""

    def __init__(self, cache=None):
        self.settings = settings.load({"COUPON_CONF": "conf/test.env", "COUPON_LOG_LEVEL": "error"})
        self.store = CountingStore()
        self.store.create()
        self.backends = replace(open_backends(self.settings), store=self.store, cache=cache or MemoryCache())
        self.there = 0

    def process(self):
        return CommandService(self.backends, self.settings)

    def arrive(self, chunks, address=ADDRESS):
        """The chunks' markers: nothing else is looked at."""
        code_deriver, every = self.process().code_deriver, list(split(address.amount))
        markers = [every[chunk].marker(address.operation, code_deriver) for chunk in chunks]
        self.store.save_many([create(a_creation(operation=address.operation, amount=AMOUNT), code) for code in markers])
        self.there += len(markers)

    def look(self, service, address=ADDRESS):
        """The outcome, and how many markers were read for it."""
        before = self.store.reads
        outcome = service.operations.outcome(address)
        return outcome, self.store.reads - before


@pytest.fixture
def desk():
    return Desk()


def orders():
    """From the first to the last; by partitions, one after the other; by partitions, several at a time; any."""
    partitions = [[] for _ in range(8)]
    shuffled = random.Random(7)
    for chunk in range(CHUNKS):
        shuffled.choice(partitions).append(chunk)
    in_turn = [p.pop(0) for _ in range(CHUNKS) for p in partitions if p]
    any_order = list(range(CHUNKS))
    shuffled.shuffle(any_order)
    by_partition = [chunk for p in _again(partitions, in_turn) for chunk in p]
    return {"in order": list(range(CHUNKS)), "partitions": by_partition, "in turn": in_turn, "any": any_order}


def _again(partitions, in_turn):
    dealt = [[] for _ in partitions]
    for place, chunk in enumerate(in_turn):
        dealt[place % len(dealt)].append(chunk)
    return dealt


@pytest.mark.parametrize("order", list(orders()))
@pytest.mark.parametrize("looks", [20, 400])
def test_a_walk_from_nothing_to_all_costs_a_few_reads_a_chunk_and_a_few_a_look(desk, order, looks):
    service, arriving, created, reads = desk.process(), orders()[order], [], []
    a_time = CHUNKS // looks
    for first in range(0, CHUNKS, a_time):
        outcome, read = desk.look(service)
        assert outcome.status is Status.ACCEPTED
        assert outcome.created <= desk.there * CHUNK
        created.append(outcome.created)
        reads.append(read)
        desk.arrive(arriving[first : first + a_time])
    outcome, read = desk.look(service)
    assert (outcome.status, outcome.created) == (Status.APPLIED, AMOUNT)
    assert created == sorted(created)
    assert max(reads) <= EACH_MAX
    assert sum(reads) + read <= 4 * CHUNKS + 32 * looks
    assert created[-1] >= 0.8 * AMOUNT  # of 95 or 99.75 % that are there
    assert desk.look(service) == (outcome, 0)


def test_who_asks_often_while_nothing_happens_costs_little(desk):
    service = desk.process()
    desk.arrive(range(0, CHUNKS, 2))
    desk.look(service)
    for _ in range(20):  # it finds what is left to be found
        desk.look(service)
    reads = [desk.look(service)[1] for _ in range(100)]
    assert sum(reads) <= 100 * 32


@pytest.mark.parametrize("absent", [0, 1, 777, CHUNKS - 1])
def test_it_is_applied_when_all_are_there_and_not_before_whoever_is_asked(desk, absent):
    desk.arrive([chunk for chunk in range(CHUNKS) if chunk != absent])
    known, fresh = desk.process(), desk.process()
    for _ in range(5):
        assert desk.look(known)[0].status is Status.ACCEPTED
    assert desk.look(fresh)[0].created == AMOUNT - CHUNK
    desk.arrive([absent])
    assert [desk.look(service)[0].status for service in (known, fresh, desk.process())] == [Status.APPLIED] * 3


def test_what_is_created_never_goes_back_whichever_process_is_asked(desk):
    arriving, processes, created = orders()["in turn"], [desk.process() for _ in range(3)], []
    for first in range(0, CHUNKS, 20):
        desk.arrive(arriving[first : first + 20])
        created.append(desk.look(processes[(first // 20) % 3 if first % 80 else 0])[0].created)
        assert created[-1] <= desk.there * CHUNK
    assert created == sorted(created)


def test_a_cache_that_is_away_or_tells_nonsense_changes_no_outcome(desk):
    away = Desk(AwayCache())
    away.arrive(range(1_000))
    assert away.look(away.process())[0].status is Status.ACCEPTED
    key, code_deriver = f"created:{ADDRESS.operation}", desk.process().code_deriver
    for nonsense in (
        b"",
        b"-1",
        b"x",
        b"12",
        b"9" * 400,
        *(code_deriver.seal(key, n) + n for n in (b"", b"x", b"1000000")),
    ):
        desk.backends.cache.put(key, nonsense, 60)
        outcome, _ = desk.look(desk.process())
        assert (outcome.status, outcome.created) == (Status.ACCEPTED, 0)


@pytest.mark.parametrize("amount", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 20 * CHUNK + 7])
def test_the_last_chunk_counts_what_it_has(desk, amount):
    address = CreationRef("p" * 20, amount)
    chunks = list(split(amount))
    service = desk.process()
    assert desk.look(service, address)[0].created == 0
    desk.arrive(range(len(chunks) - 1), address)
    assert desk.look(desk.process(), address)[0].created == amount - chunks[-1].size
    desk.arrive([len(chunks) - 1], address)
    assert desk.look(service, address)[0].created == amount


def test_many_creations_are_remembered_within_bounds(desk, monkeypatch):
    from coupon.acceptance import creation_progress

    monkeypatch.setattr(creation_progress, "REMEMBERED", 5)
    monkeypatch.setattr(creation_progress, "REMEMBERED_COMPLETE", 5)
    service = desk.process()
    addresses = [CreationRef(f"{number:020d}", CHUNK) for number in range(20)]
    for address in addresses:
        desk.look(service, address)
        desk.arrive([0], address)
        desk.look(service, address)
    assert [desk.look(service, address)[1] for address in reversed(addresses)] == [0] * 5 + [1] * 15


def test_what_was_seen_of_many_creations_is_remembered_within_bounds(desk, monkeypatch):
    from coupon.acceptance import creation_progress

    monkeypatch.setattr(creation_progress, "REMEMBERED", 5)
    service = desk.process()
    halves = [CreationRef(f"{number:020d}", 2 * CHUNK) for number in range(20)]
    for address in halves:
        desk.arrive([0], address)
        desk.look(service, address)
    assert [desk.look(service, address)[1] for address in reversed(halves)] == [1] * 5 + [3] * 15
    for number in range(20, 40):
        complete = CreationRef(f"{number:020d}", CHUNK)
        desk.arrive([0], complete)
        desk.look(service, complete)
    assert desk.look(service, halves[0])[1] == 1, "what is complete leaves its place to what is not"
