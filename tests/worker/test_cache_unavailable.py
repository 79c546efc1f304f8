"""The cache is unavailable, or its entries contradict the store."""

import pytest
from structlog.testing import capture_logs

from coupon.domain.errors import BackendRejected, Refused
from coupon.domain.model import Kind, Reason, transition
from coupon.domain.serialization import decode_command
from coupon.runtime.cache_entries import Confirmed, Entries, cache_key
from coupon.worker.cache_invalidator import CacheInvalidator
from tests.worker.conftest import CHAIN
from tests.worker.faults import Between, Faulty


@pytest.fixture
def on_faulty_cache(world):
    """A world, its cache, and a coupon."""
    cache = Faulty(world.backends.cache)
    shaken = world.but(cache=cache)
    return shaken, cache, *shaken.coupons()


def test_the_cache_away_costs_no_command(on_faulty_cache):
    shaken, cache, code = on_faulty_cache
    cache.down = True
    for kind, user in CHAIN:
        shaken.change(kind, code, user)
        shaken.drain()
    assert shaken.stored(code).version == 6


def test_the_cache_is_said_to_be_back_once(world):
    cache = Faulty(world.backends.cache)
    world.leave()
    shaken = world.but(cache=cache)
    (code,) = shaken.coupons()
    with capture_logs() as lines:
        cache.down = True
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
        cache.down = False
        for _ in range(3):
            shaken.look(shaken.worker, after_ms=20_000)
        shaken.contested()  # its entry is checked, too
        shaken.drain()
    events = [line["event"] for line in lines if "cache" in line["event"] and line["log_level"] != "debug"]
    assert "cache unavailable" in events
    assert (events.count("cache is back"), events[-1]) == (1, "cache is back")


def test_a_cache_that_refuses_a_coupon_costs_no_command(on_faulty_cache):
    shaken, cache, code = on_faulty_cache
    cache.before["write_many"] = [BackendRejected("too large")] * 2  # in a group, and alone
    shaken.change(Kind.ISSUE, code, "ann")
    shaken.drain()
    assert shaken.stored(code).user_id == "ann"


def test_who_lost_without_the_cache_is_told_so_though_another_request_has_the_key(world):
    """The command is in the queue by then: that its key belongs to another request would be a no without a reason."""
    cache = Faulty(world.backends.cache)
    first, second = world.coupons(2)
    world.change(Kind.ISSUE, first, "ann", key="k")
    world.drain()

    def meanwhile():
        cache.down = False
        world.change(Kind.ISSUE, second, "carl")

    shaken = world.but(cache=cache, queue=Between(world.backends.queue, before_publish=meanwhile))
    cache.down = True
    with pytest.raises(Refused) as refused:
        shaken.change(Kind.ISSUE, second, "bob", key="k")
    assert refused.value.reason is Reason.RIVAL_WON
    assert shaken.stored(second).user_id == "carl"


def test_a_stale_cache_never_refuses_what_the_store_allows(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    stale = world.backends.cache.get(cache_key(code)).value
    world.change(Kind.CANCEL, code)
    world.drain()
    world.backends.cache.put(cache_key(code), stale, 100)
    world.change(Kind.ISSUE, code, "bob")
    world.drain()
    assert world.stored(code).user_id == "bob"


def test_a_worker_that_died_between_a_rejection_and_the_cache_forgets_it_the_second_time(world):
    cache = Faulty(world.backends.cache)
    world.leave()
    shaken = world.but(cache=cache)
    code = shaken.contested()
    cache.before["replace"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        shaken.drain()
    shaken.leave()
    shaken.drain(shaken.a_worker())
    assert world.is_claimed(code)


def test_an_attempt_that_lost_is_forgotten_though_a_later_one_of_the_same_operation_won(world):
    """The worker dies after it saved both, and before it told the cache of the first."""
    cache = Faulty(world.backends.cache)
    world.leave()
    shaken = world.but(cache=cache)
    (code,) = shaken.coupons()
    born = shaken.stored(code)
    for kind, user in [(Kind.ISSUE, "bob"), (Kind.CANCEL, None)]:
        shaken.change(kind, code, user)
        shaken.drain()
    past = {"previous": born.last_operation, "previous_version": 1, "number": 5, "previous_number": 1}
    first = shaken.rival(Kind.ISSUE, code, "ann", key="k", **past)
    lost = next(c for c in map(decode_command, shaken.waiting()) if c.operation == first.operation)
    entry = Entries(shaken.service.code_deriver).encode(code, Confirmed(transition(born, lost)))
    shaken.backends.cache.put(cache_key(code), entry, 100)
    shaken.rival(Kind.ISSUE, code, "ann", key="k")
    cache.before["replace"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        shaken.drain()
    shaken.leave()
    assert not shaken.is_claimed(code)
    shaken.drain(shaken.a_worker())
    assert shaken.stored(code).entry_at(4).operation == first.operation
    assert shaken.is_claimed(code)


@pytest.fixture
def a_loser_in_the_cache(world):
    """A world whose cache holds a command that lost, and whose cache is away while that is applied."""
    cache = Faulty(world.backends.cache)
    world.leave()
    shaken = world.but(cache=cache)
    code = shaken.contested()
    cache.down = True
    shaken.drain()
    return shaken, cache, code


def test_what_lost_while_the_cache_was_away_is_forgotten_when_it_is_back(a_loser_in_the_cache):
    world, cache, code = a_loser_in_the_cache
    assert world.lag() > 0
    cache.down = False
    world.now += 1_000
    world.drain()
    assert world.is_claimed(code)
    assert world.lag() == 0


def test_what_lost_while_the_cache_was_away_is_forgotten_by_the_next_worker(a_loser_in_the_cache):
    world, cache, code = a_loser_in_the_cache
    world.leave()
    cache.down = False
    world.drain(world.a_worker())
    assert world.is_claimed(code)
    assert world.lag() == 0


def test_a_cache_that_stays_away_is_left_alone_and_tried_ever_more_rarely(a_loser_in_the_cache):
    world, cache, _ = a_loser_in_the_cache
    world.drain()
    tried = []
    for second in range(30):
        cache.calls.clear()
        world.now += 1_000
        world.drain()
        if "get" in cache.calls:
            tried.append(second)
    assert tried == [0, 1, 3, 7, 15, 25]


def test_a_cache_away_holds_no_command_up(a_loser_in_the_cache):
    """What lost is written down elsewhere: its offset is committed, and nothing before it is done once more."""
    world, _, code = a_loser_in_the_cache
    assert world.backends.queue.lag(["commands"], "worker") == 0
    world.change(Kind.USE, code)
    world.drain()
    assert world.stored(code).used


def test_a_command_accepted_without_the_cache_takes_what_is_past_out_of_it(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    cut_off = Faulty(world.backends.cache)
    cut_off.down = True
    world.but(cache=cut_off).change(Kind.CANCEL, code)
    world.drain()
    assert world.is_claimed(code)


def test_what_was_accepted_since_stays_in_the_cache(world):
    """The cache is looked at before it forgets: what leads on from the store is right."""
    (code,) = world.coupons()
    world.leave()
    cut_off = Faulty(world.backends.cache)
    cut_off.down = True
    world.but(cache=cut_off).change(Kind.ISSUE, code, "ann")
    cached = world.but(cache=world.backends.cache)
    cached.change(Kind.USE, code)
    backends, code_deriver = cached.backends, cached.service.code_deriver
    CacheInvalidator(backends.cache, backends.store, backends.queue, code_deriver, 100, lambda: 0).invalidate([code])
    with pytest.raises(Refused, match="ALREADY_USED"):
        cached.change(Kind.CANCEL, code)
    for worker in list(world.consumers)[1:]:
        world.drain(worker)
    assert world.stored(code).used
