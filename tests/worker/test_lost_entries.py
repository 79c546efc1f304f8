"""A client who was told yes is not contradicted, however the cache lost what it knew of a command that waits."""

from contextlib import suppress

import pytest

from coupon.domain.errors import BackendUnavailable, CouponBusy, Refused
from coupon.domain.model import Kind
from coupon.runtime.cache_entries import cache_key
from tests.proof.simulation.witnesses import WitnessCache
from tests.worker.conftest import World
from tests.worker.faults import Between, NeverServed


@pytest.fixture
def stalled(world: World) -> World:
    """A service whose cache may lose what it holds, and whose worker applies only what a test tells it to."""
    stalled = world.but(cache=WitnessCache(lambda: 0.0, servers=1))
    world.consumers.clear()
    return stalled


def wipe(cache: WitnessCache) -> None:
    cache.wipe("0")


def evict(cache: WitnessCache) -> None:
    """The coupons, not the epoch."""
    for key in [key for key in cache.held_keys() if key.startswith(cache_key(""))]:
        cache.evict(key)


@pytest.mark.parametrize("lose", [wipe, evict])
def test_none_of_several_coupons_is_believed_to_be_as_the_store_has_it(stalled, lose):
    """Whoever asks for the first one begins the next epoch, and another one must not end there."""
    codes = stalled.coupons(5)
    for code in codes:
        stalled.change(Kind.ISSUE, code, "ann")
    lose(stalled.backends.cache)
    for code in codes:
        with pytest.raises(CouponBusy):
            stalled.change(Kind.USE, code)
    stalled.drain()
    for code in codes:
        stalled.change(Kind.USE, code)
    stalled.drain()
    assert all(stalled.stored(code).used for code in codes)


def test_a_claim_knows_of_all_that_was_accepted_before_it_was_there(stalled):
    """Its process is held up, another one accepts, the cache is wiped, and then the claim is written."""
    (code,) = stalled.coupons()

    def meanwhile() -> None:
        stalled.change(Kind.ISSUE, code, "ann")
        wipe(stalled.backends.cache)

    late = stalled.but(queue=Between(stalled.backends.queue, after_ends=meanwhile))
    late.service = late.a_service(NeverServed)
    stalled.consumers.clear()
    with suppress(CouponBusy, Refused):
        late.change(Kind.CANCEL, code)
    with pytest.raises(CouponBusy):
        stalled.change(Kind.USE, code)
    stalled.drain()
    stalled.change(Kind.USE, code)
    stalled.drain()
    assert stalled.stored(code).used


def test_nobody_is_told_yes_whose_reservation_another_command_replaced(stalled):
    """The cache is wiped and another caller accepted, between a reservation and its publish."""
    (code,) = stalled.coupons()

    def meanwhile() -> None:
        wipe(stalled.backends.cache)
        stalled.change(Kind.ISSUE, code, "bob")

    late = stalled.but(queue=Between(stalled.backends.queue, before_publish=meanwhile))
    stalled.consumers.clear()
    with pytest.raises(BackendUnavailable, match="its reservation was lost"):
        late.change(Kind.ISSUE, code, "ann")
    stalled.drain()
    assert stalled.stored(code).user_id == "bob"
    stalled.change(Kind.USE, code)
    stalled.drain()
    assert stalled.stored(code).used


def test_who_lost_to_a_command_without_the_cache_goes_on_with_what_won(stalled):
    """The cache has as many commands as the store, and another one last."""
    (code,) = stalled.coupons()
    stalled.change(Kind.ISSUE, code, "ann")
    stalled.drain()
    stalled.rival(Kind.CANCEL, code, reserved=False)
    stalled.change(Kind.USE, code)
    stalled.drain()
    assert not stalled.stored(code).issued
    stalled.change(Kind.ISSUE, code, "bob")
    stalled.drain()
    assert stalled.stored(code).user_id == "bob"
