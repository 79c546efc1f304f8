"""What callers are told of their commands, once the worker has applied or rejected them."""

import pytest

from coupon.acceptance.operations import Status
from coupon.domain.errors import OutcomeExpired, Refused
from coupon.domain.model import HISTORY_MAX, REJECTIONS_MAX, Kind, Reason
from coupon.runtime.cache_entries import cache_key


def test_of_two_rivals_built_on_the_same_coupon_one_wins_and_the_other_is_told(world):
    (code,) = world.coupons()
    first = world.change(Kind.ISSUE, code, "ann")
    second = world.rival(Kind.ISSUE, code, "bob")
    world.drain()
    outcomes = [world.service.operations.outcome(address) for address in (first, second)]
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.REJECTED]
    assert outcomes[1].reason is Reason.RIVAL_WON
    assert world.stored(code).user_id == "ann"


def test_what_was_built_on_a_loser_is_rejected_and_the_next_command_is_not(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.backends.cache.delete_many([cache_key(code)])
    world.change(Kind.ISSUE, code, "bob")
    use = world.change(Kind.USE, code, "bob")
    world.drain()
    assert world.service.operations.outcome(use).reason is Reason.PREDECESSOR_LOST
    applied = world.change(Kind.USE, code, "ann")
    world.drain()
    assert world.service.operations.outcome(applied).status is Status.APPLIED


def test_a_rejected_operation_sent_again_is_a_new_attempt(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.backends.cache.delete_many([cache_key(code)])
    lost = world.change(Kind.ISSUE, code, "bob", key="k")
    world.change(Kind.CANCEL, code)
    world.drain()
    world.change(Kind.CANCEL, code)
    world.now += 1
    again = world.change(Kind.ISSUE, code, "bob", key="k")
    assert again.operation == lost.operation
    assert world.service.operations.outcome(again).status is Status.ACCEPTED
    world.drain()
    assert world.service.operations.outcome(again).status is Status.APPLIED
    assert world.stored(code).user_id == "bob"


def test_who_lost_is_told_so_even_when_more_lost_than_a_coupon_remembers(world):
    (code,) = world.coupons()
    addresses = [world.rival(Kind.ISSUE, code, f"user{number}") for number in range(REJECTIONS_MAX + 50)]
    world.drain()
    statuses = [world.service.operations.outcome(address).status for address in addresses]
    assert statuses == [Status.APPLIED] + [Status.REJECTED] * (REJECTIONS_MAX + 49)


def test_an_operation_beyond_the_history_is_said_to_be_forgotten_and_never_to_be_pending(world):
    (code,) = world.coupons()
    first = world.change(Kind.ISSUE, code, "ann")
    for number in range(HISTORY_MAX):
        world.change(Kind.ISSUE if number % 2 else Kind.CANCEL, code, "ann" if number % 2 else None)
    world.drain()
    with pytest.raises(OutcomeExpired):
        world.service.operations.outcome(first)


def test_an_operation_accepted_again_is_not_taken_for_its_first_attempt_by_the_cache(world):
    """Its first attempt is among the rejections, its second is not applied yet: the cache is right, not behind."""
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.backends.cache.delete_many([cache_key(code)])
    world.change(Kind.ISSUE, code, "bob", key="k")
    world.drain()
    world.now += 1
    world.change(Kind.CANCEL, code)
    world.drain()
    world.change(Kind.ISSUE, code, "bob", key="k")
    with pytest.raises(Refused, match="ALREADY_ISSUED"):
        world.change(Kind.ISSUE, code, "eve")
