"""The worker, driven step by step: redelivery, failures at any step, and a worker that is told to stop."""

import threading
from contextlib import suppress

import pytest

from coupon.acceptance.creations import TOGETHER_MS
from coupon.acceptance.operations import Status
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import CHUNK, Kind
from coupon.domain.serialization import encode_command
from coupon.domain.topics import CREATION
from coupon.ports.queue import Message
from coupon.worker.backoff import PAUSE_S
from tests.coupons import a_creation
from tests.worker.conftest import CHAIN, FIRST, LAST, SHOP, a_world
from tests.worker.faults import Faulty, away


def the_chain(world, code):
    return [world.change(kind, code, user) for kind, user in CHAIN]


def test_a_chain_accepted_before_any_of_it_was_applied_is_applied_whole(world):
    (code,) = world.coupons()
    addresses = the_chain(world, code)
    world.drain()
    assert [world.service.operations.outcome(address).status for address in addresses] == [Status.APPLIED] * 5
    coupon = world.stored(code)
    assert [entry.operation for entry in coupon.history[1:]] == [address.operation for address in addresses]
    assert (coupon.user_id, coupon.used, coupon.version) == ("bob", False, 6)
    assert world.documents("bob") == [code]
    assert world.documents("ann") == []
    assert world.lag() == 0


@pytest.mark.parametrize(
    ("role", "method"),
    [("store", "save_many"), ("store", "get_many"), ("search", "index_many"), ("consumer", "commit")],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failure_before_or_after_any_step_loses_and_doubles_nothing(world, role, method, moment):
    store, search, queue = Faulty(world.backends.store), Faulty(world.backends.search), world.backends.queue
    shaken = world.but(store=store, search=search)
    (code,) = shaken.coupons()
    addresses = the_chain(shaken, code)
    faulty = {"store": store, "search": search, "consumer": shaken.consumer}[role]
    getattr(faulty, moment)[method] = [away(), away()]
    for _ in range(10):
        try:
            shaken.drain()
        except BackendUnavailable:
            shaken.worker.rewind()
        shaken.now += 20_000
    coupon = shaken.stored(code)
    assert [entry.operation for entry in coupon.history[1:]] == [address.operation for address in addresses]
    assert coupon.rejections == ()
    assert shaken.documents("bob") == [code]
    assert queue.lag(["commands", "reindex"], "worker") == 0


def test_a_worker_that_died_before_its_commit_changes_nothing_the_second_time(world):
    (code,) = world.coupons()
    the_chain(world, code)
    world.consumer.commit = lambda positions: None
    world.drain()
    before = world.stored(code)
    world.leave()
    world.drain(world.a_worker())
    assert world.stored(code) == before
    assert world.lag() == 0


def test_a_zombie_that_wakes_up_does_not_overwrite(world):
    (code,) = world.coupons()
    zombie_sees = world.stored(code)
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    conflicts = world.backends.store.save_many([zombie_sees._replace(user_id="eve", revision=2)])
    assert conflicts == {code}
    assert world.stored(code).user_id == "ann"


def test_a_long_batch_is_given_back_so_that_the_group_is_polled(world):
    whole = a_creation(amount=20_000, size=CHUNK, secret_fingerprint=world.service.code_deriver.fingerprint)
    chunks = [encode_command(whole._replace(first=first)) for first in range(0, 20_000, CHUNK)]
    world.backends.queue.publish([Message("commands", "k", chunk) for chunk in chunks])  # as an earlier version did
    save_many = world.backends.store.save_many

    def slowly(coupons):
        world.now += 1_000
        return save_many(coupons)

    world.backends.store.save_many = slowly
    world.worker.run_once(poll_s=0)
    stored = len(world.backends.store.scan(100_000).coupons)
    assert 1_000 <= stored <= 5_000
    world.drain()
    assert len(world.backends.store.scan(100_000).coupons) == 20_000


def test_what_was_done_before_the_store_had_enough_is_not_done_again(world):
    """Or a store that throttles would never get on."""
    store, rounds = Faulty(world.backends.store), 0
    throttled = world.but(store=store)
    throttled.service.create(5_000, FIRST, LAST, SHOP)
    while throttled.lag():
        store.before["save_many"] = [None, None, away()]  # all but the markers, the markers, and then no more
        with suppress(BackendUnavailable):
            throttled.drain()
        throttled.worker.rewind()
        rounds += 1
        assert rounds <= 10
    assert len(throttled.backends.store.scan(100_000).coupons) == 5_000


def test_a_store_that_takes_a_part_at_a_time_is_not_waited_for_longer_and_longer(world):
    store, pauses = Faulty(world.backends.store), []
    throttled = world.but(store=store)
    throttled.service.create(10_000, FIRST, LAST, SHOP)
    store.before["save_many"] = [None, None, away()] * 100

    class Stop:
        def is_set(self):
            return throttled.lag() == 0

        def wait(self, seconds):
            pauses.append(seconds)

    throttled.worker.run(Stop())
    assert len(pauses) > 5
    assert max(pauses) <= PAUSE_S


def test_a_worker_told_to_stop_finishes_the_part_in_flight_only(world):
    world.service.create(20_000, FIRST, LAST, SHOP)
    stop, save_many = threading.Event(), world.backends.store.save_many

    def save_and_stop(coupons):
        stop.set()
        return save_many(coupons)

    world.backends.store.save_many = save_and_stop
    world.worker.run(stop)
    assert 0 < len(world.backends.store.scan(100_000).coupons) <= 1_000
    world.backends.store.save_many = save_many
    world.drain(world.a_worker())
    assert len(world.backends.store.scan(100_000).coupons) == 20_000


def test_a_creation_applied_twice_makes_the_same_coupons_and_resets_none(world):
    whole = Faulty(world.backends.queue)
    codes = world.coupons(1200)
    world.change(Kind.ISSUE, codes[7], "ann")
    world.drain()
    for delivery in list(whole.browse(CREATION)):
        world.backends.queue.publish([Message(CREATION, delivery.key, delivery.value)])
    before = world.backends.store.get_many(codes)
    world.drain()
    assert len(before) == 1200
    assert world.backends.store.get_many(codes) == before
    assert before[codes[7]].user_id == "ann"


def test_creations_of_one_moment_go_to_one_partition_and_the_chunks_of_one_do_not(environ):
    def published(world, *amounts):
        before = {(d.partition, d.offset) for d in world.backends.queue.browse(CREATION)}
        for amount in amounts:
            world.service.create(amount, FIRST, LAST, SHOP)
        after = [d for d in world.backends.queue.browse(CREATION) if (d.partition, d.offset) not in before]
        assert len(after) == sum(-(-amount // CHUNK) for amount in amounts)
        return {d.partition for d in after}

    for world in a_world({**environ, "COUPON_QUEUE_URL": "memory://?partitions=50"}):
        moments = []
        for _ in range(20):
            moments.append(published(world, *[1] * 10))
            world.now += TOGETHER_MS
        assert {len(partitions) for partitions in moments} == {1}
        assert len(set.union(*moments)) > 10
        assert len(published(world, 20 * CHUNK)) > 10
