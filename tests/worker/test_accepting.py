"""Commands that are accepted while the queue or the cache fails, with a worker that applies them."""

import pytest

from coupon.acceptance.operations import Status
from coupon.acceptance.service import REQUEST_MAX_MS
from coupon.domain.errors import BackendRejected, BackendUnavailable, CouponBusy, Refused
from coupon.domain.model import ChangeCoupon, Kind, transition
from coupon.domain.serialization import decode_command
from coupon.runtime.cache_entries import Confirmed, Entries, cache_key
from tests.coupons import a_command
from tests.worker.faults import Faulty, away


def test_a_publish_whose_outcome_is_unknown_may_be_sent_again(world):
    queue = Faulty(world.backends.queue)
    shaken = world.but(queue=queue)
    (code,) = shaken.coupons()
    queue.after["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.change(Kind.ISSUE, code, "ann", key="k")
    address = shaken.change(Kind.ISSUE, code, "ann", key="k")
    shaken.drain()
    assert shaken.service.operations.outcome(address).status is Status.APPLIED
    assert shaken.stored(code).version == 2


def test_a_publish_that_failed_leaves_the_coupon_free(world):
    queue = Faulty(world.backends.queue)
    shaken = world.but(queue=queue)
    (code,) = shaken.coupons()
    queue.before["publish"] = [BackendRejected("there is no such topic")]
    with pytest.raises(BackendRejected):
        shaken.change(Kind.ISSUE, code, "ann")
    shaken.change(Kind.ISSUE, code, "bob")
    shaken.drain()
    assert shaken.stored(code).user_id == "bob"


def test_a_queue_that_fails_is_not_taken_for_a_cache_that_is_away(world, monkeypatch):
    """Without the cache no key is bound."""
    (code,) = world.coupons()
    queue = Faulty(world.backends.queue)
    shaken = world.but(queue=queue)
    queue.before["ends"] = [away()] * 20
    with pytest.raises(BackendUnavailable):
        shaken.change(Kind.ISSUE, code, "ann", key="k")
    assert [c for c in map(decode_command, world.waiting()) if isinstance(c, ChangeCoupon)] == []


def test_a_key_is_free_again_when_its_request_is_refused_without_the_cache(world):
    """The cache went away once the key was bound."""
    codes = world.coupons(2)
    world.change(Kind.ISSUE, codes[0], "bob")
    world.drain()
    world.leave()
    cache = Faulty(world.backends.cache)
    shaken = world.but(cache=cache)
    shaken.backends.cache.delete_many([cache_key(codes[0])])
    cache.before["write_many"] = [None, away(), away()]
    stale = transition(shaken.stored(codes[0]), a_command(Kind.CANCEL, "c", shaken.stored(codes[0]).last_operation, 2))
    entry = Entries(shaken.service.code_deriver).encode(codes[0], Confirmed(stale))
    shaken.backends.cache.put(cache_key(codes[0]), entry, 100)
    with pytest.raises(Refused, match="ALREADY_ISSUED"):
        shaken.change(Kind.ISSUE, codes[0], "ann", key="k")
    cache.before.clear()
    shaken.change(Kind.ISSUE, codes[1], "ann", key="k")


def test_a_request_that_was_held_up_for_too_long_reserves_nothing(world, monkeypatch):
    """Its caller has asked again, and may have gone on since."""
    (code,) = world.coupons()
    get = world.backends.cache.get

    def slowly(key):
        if key == cache_key(code):
            world.waited_ms += REQUEST_MAX_MS
        return get(key)

    monkeypatch.setattr(world.backends.cache, "get", slowly)
    before = len(world.waiting())
    with pytest.raises(CouponBusy):
        world.change(Kind.ISSUE, code, "ann")
    assert len(world.waiting()) == before
    assert world.backends.cache.get(cache_key(code)) is None or world.is_claimed(code)


def test_a_publish_that_nobody_answered_for_leaves_the_coupon_to_its_retry_and_then_to_others(world):
    """It may be in the queue: who builds on the store before it is known, builds on the past."""
    queue = Faulty(world.backends.queue)
    world.leave()
    shaken = world.but(queue=queue)
    (code,) = shaken.coupons()
    queue.before["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.change(Kind.ISSUE, code, "ann", key="k")
    with pytest.raises(CouponBusy):
        shaken.change(Kind.ISSUE, code, "bob")
    shaken.change(Kind.ISSUE, code, "ann", key="k")
    shaken.drain()
    assert shaken.stored(code).user_id == "ann"
    queue.before["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.change(Kind.USE, code)
    with pytest.raises(CouponBusy):
        shaken.change(Kind.CANCEL, code)
    shaken.waited_ms += shaken.settings.reservation_ttl_s * 1000
    shaken.change(Kind.CANCEL, code)
    shaken.drain()
    assert not shaken.stored(code).issued


def test_an_accepted_command_is_not_forgotten_by_a_refusal_before_it_is_applied(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    with pytest.raises(Refused, match="ALREADY_ISSUED"):
        world.change(Kind.ISSUE, code, "bob")
