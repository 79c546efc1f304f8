"""The queue alone makes every coupon as it was: on an empty store, on an older one, in both layouts, in one run."""

from random import Random

import pytest

from backends.store.memory import MemoryStore
from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import command_topics
from tests.worker.conftest import a_world
from tests.worker.faults import Faulty, away
from tests.worker.restored import copied, coupons_of, differences, restore
from tests.worker.rivals import Rivals

STEPS = 1_000
PATIENCE_MS = 600_000


@pytest.fixture(params=["single", "per-command"])
def shop(request, environ):
    yield from a_world({**environ, "COUPON_TOPICS": request.param})


def workers_of(world, random):
    """Which share the topics in one way or another."""
    topics = command_topics(world.settings.topics)
    world.leave()
    if len(topics) == 2:
        return [world.a_worker(), world.a_worker()]
    return [world.a_worker(topic) for topic in random.sample(topics, len(topics))]


def live(world, seed, steps=STEPS):
    """A life with rivals, workers that stop and go, and die. Backups that were taken on the way."""
    random, backups = Random(seed), []
    rivals, workers = Rivals(world, random), workers_of(world, random)
    codes = []

    def work(worker):
        try:
            worker.run_once(poll_s=0)
        except BackendUnavailable:
            worker.rewind()

    for step in range(steps):
        if step % 100 == 0:
            fresh = rivals.create(4, f"birth of {step}")
            while not world.backends.store.get_many(fresh).keys() >= set(fresh):
                for worker in workers:
                    work(worker)
            codes += fresh
        rivals.change(random.choice(codes))
        if random.random() < 0.1:
            work(random.choice(workers))
        if random.random() < 0.003:
            world.now += PATIENCE_MS
        if random.random() < 0.005:
            index = random.randrange(len(workers))
            dead = workers[index]
            topics = sorted(world.consumers[dead].topics)
            world.leave(dead)
            workers[index] = world.a_worker(*topics)
        if step % 250 == 200:
            backups.append(copied(world.backends.store))
    for _ in range(100):
        world.now += PATIENCE_MS // 10
        for worker in workers:
            work(worker)
        if world.lag() == 0:
            return backups
    raise AssertionError(f"{world.lag()} messages are left")


@pytest.mark.logs_error("dead letter")
@pytest.mark.parametrize("seed", range(3))
def test_an_empty_store_becomes_as_it_was(shop, seed):
    live(shop, seed)
    store = MemoryStore()
    counts = restore(shop.backends, shop.settings, store)
    assert differences(shop.backends.store, store) == {}
    assert counts.left == 0
    assert counts.rejected > 50
    assert counts.applied > 50


@pytest.mark.logs_error("dead letter")
@pytest.mark.parametrize("seed", range(3))
def test_an_older_store_becomes_as_it_was(shop, seed):
    for backup in live(shop, seed):
        assert differences(shop.backends.store, backup) != {}
        assert restore(shop.backends, shop.settings, backup).left == 0
        assert differences(shop.backends.store, backup) == {}


def test_a_store_that_is_as_it_was_is_recognised(shop):
    live(shop, 7)
    before = coupons_of(shop.backends.store)
    counts = restore(shop.backends, shop.settings, shop.backends.store)
    assert coupons_of(shop.backends.store) == before
    assert (counts.applied, counts.rejected) == (0, 0)
    assert counts.recognised > 0


@pytest.mark.logs_error("dead letter")
def test_a_restore_that_was_killed_anywhere_is_run_again(shop):
    live(shop, 8)
    before = shop.backends.store
    for step in range(0, 20, 3):
        store = MemoryStore()
        faulty = Faulty(store)
        faulty.before["save_many"] = [*[None] * step, away()]
        try:
            restore(shop.backends, shop.settings, faulty)
        except BackendUnavailable:
            restore(shop.backends, shop.settings, store)
        assert differences(before, store) == {}


def test_what_was_settled_by_another_attempt_of_what_was_applied_is_as_it_was(shop):
    rivals = Rivals(shop, Random(0))
    [code] = rivals.create(1, "birth")
    shop.drain()
    while not rivals.sent:
        rivals.change(code)
    again = rivals.sent[0]._replace(number=rivals.sent[0].number + 1_000)
    for attempt in (rivals.sent[0], again):
        rivals.publish(rivals.topics[attempt.kind], code, attempt)
        shop.drain()
    assert shop.stored(code).settled == again.number
    store = MemoryStore()
    restore(shop.backends, shop.settings, store)
    assert differences(shop.backends.store, store) == {}
