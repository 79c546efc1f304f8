"""Commands and creations take turns: a large creation holds up nobody's command, and is applied all the same."""

import pytest

from coupon.acceptance.operations import Status
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import CHUNK, Kind
from coupon.domain.serialization import encode_command
from coupon.domain.topics import CREATION
from coupon.ports.queue import Message
from coupon.worker.turns import PORTION, PORTION_MIN
from tests.coupons import a_creation
from tests.worker.conftest import FIRST, LAST, SHOP, a_world
from tests.worker.faults import Faulty, away

CHUNKS = 20
SLOW_AMOUNT = 5 * CHUNK
"""After so many coupons a slow store gets the smallest portions."""


@pytest.fixture(params=["single", "per-command"])
def shop(request, environ):
    yield from a_world({**environ, "COUPON_TOPICS": request.param})


def created(world, address):
    """How many coupons of the creation are stored."""
    return len(world.backends.store.get_many(world.service.codes(address, 0, address.amount)))


def large(world):
    return world.service.create(CHUNKS * CHUNK, FIRST, LAST, SHOP)


def lag(world):
    return world.backends.queue.lag([CREATION], "worker")


def test_a_command_waits_for_no_more_than_a_portion_of_a_creation(shop):
    first, *others = shop.coupons(5)
    address = large(shop)
    shop.change(Kind.ISSUE, first, "ann")
    shop.worker.run_once(poll_s=0)
    assert shop.stored(first).issued
    assert created(shop, address) <= PORTION
    for code in others:
        shop.change(Kind.ISSUE, code, "ann")
        before = created(shop, address)
        shop.worker.run_once(poll_s=0)
        assert shop.stored(code).issued
        assert created(shop, address) <= before + PORTION


def test_a_creation_goes_on_while_there_are_always_commands(environ):
    for world in a_world({**environ, "COUPON_BATCH_MAX": "16"}):
        codes = world.coupons(200)
        address = large(world)
        for code in codes:
            world.change(Kind.ISSUE, code, "ann")
        for step in range(1, 10):
            world.worker.run_once(poll_s=0)
            assert created(world, address) >= (step - 1) * CHUNK
        assert any(not world.stored(code).issued for code in codes)
        world.drain()
        assert all(world.stored(code).issued for code in codes)
        assert created(world, address) == address.amount


def test_small_creations_are_applied_together(world):
    addresses = [world.service.create(1, FIRST, LAST, SHOP) for _ in range(20)]
    world.worker.run_once(poll_s=0)
    assert [world.service.operations.outcome(address).status for address in addresses] == [Status.APPLIED] * 20


def test_what_is_held_back_is_not_committed_and_another_worker_applies_it(shop):
    address = large(shop)
    shop.worker.run_once(poll_s=0)
    shop.worker.flush()
    assert lag(shop) == CHUNKS - 1
    shop.leave()
    shop.drain(shop.a_worker())
    assert created(shop, address) == address.amount
    assert lag(shop) == 0


def test_what_is_held_back_is_delivered_again_after_a_failure(world):
    store = Faulty(world.backends.store)
    shaken = world.but(store=store)
    address = large(shaken)
    shaken.worker.run_once(poll_s=0)
    store.before["save_many"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.worker.run_once(poll_s=0)
    shaken.worker.rewind()
    shaken.drain()
    assert created(shaken, address) == address.amount
    assert lag(shaken) == 0


def test_a_creation_that_an_earlier_version_left_among_the_commands_is_applied(world):
    chunk = a_creation(amount=CHUNK, size=CHUNK, secret_fingerprint=world.service.code_deriver.fingerprint)
    world.backends.queue.publish([Message("commands", "k", encode_command(chunk))])
    world.drain()
    codes = list(world.service.code_deriver.codes(chunk.operation, 0, CHUNK))
    assert world.backends.store.get_many(codes).keys() == set(codes)
    assert world.lag() == 0


@pytest.fixture
def slow(world, monkeypatch):
    """A store that takes 300 ms for each write."""
    save_many = world.backends.store.save_many

    def slowly(coupons):
        world.now += 300
        return save_many(coupons)

    monkeypatch.setattr(world.backends.store, "save_many", slowly)
    return world


def test_a_slow_store_gets_fewer_coupons_between_two_looks_for_commands(slow):
    address = large(slow)
    for _ in range(5):
        slow.worker.run_once(poll_s=0)
    before = created(slow, address)
    slow.worker.run_once(poll_s=0)
    assert 0 < created(slow, address) - before <= PORTION_MIN
    slow.drain()
    assert created(slow, address) == address.amount
    assert lag(slow) == 0


def test_a_chunk_that_was_applied_in_part_is_not_committed_and_has_no_marker(slow):
    slow.coupons(SLOW_AMOUNT)
    address = slow.service.create(CHUNK, FIRST, LAST, SHOP)
    for parts_done in range(1, CHUNK // PORTION_MIN):
        slow.worker.run_once(poll_s=0)
        slow.worker.flush()
        assert created(slow, address) == parts_done * PORTION_MIN
        assert lag(slow) == 1
        assert slow.service.operations.outcome(address).created == 0
    slow.leave()
    slow.drain(slow.a_worker())
    assert created(slow, address) == CHUNK
    assert slow.service.operations.outcome(address).status is Status.APPLIED


def test_a_quick_store_gets_more_again(slow, monkeypatch):
    slow.coupons(SLOW_AMOUNT)
    monkeypatch.undo()
    slow.coupons(SLOW_AMOUNT)
    address = large(slow)
    slow.worker.run_once(poll_s=0)
    assert created(slow, address) == PORTION


def test_small_and_large_creations_are_cut_to_a_portion(world):
    addresses = [world.service.create(amount, FIRST, LAST, SHOP) for amount in (1, 300, 2 * CHUNK, 1, 450, 499, CHUNK)]
    before = 0
    while world.worker.run_once(poll_s=0):
        now = sum(created(world, address) for address in addresses)
        assert now - before <= PORTION
        before = now
    assert [created(world, address) for address in addresses] == [address.amount for address in addresses]
    assert lag(world) == 0


def test_a_part_of_a_chunk_that_has_no_marker_is_one_write(slow, monkeypatch):
    slow.coupons(SLOW_AMOUNT)
    sizes, save_many = [], slow.backends.store.save_many
    monkeypatch.setattr(slow.backends.store, "save_many", lambda new: sizes.append(len(new)) or save_many(new))
    slow.service.create(CHUNK, FIRST, LAST, SHOP)
    slow.worker.run_once(poll_s=0)
    assert sizes == [PORTION_MIN]
