"""The worker, driven step by step: redelivery, crashes between any two steps, and each backend away."""

import threading
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from coupon.acceptance.creations import TOGETHER_MS
from coupon.acceptance.operations import OutcomeExpired, Status
from coupon.acceptance.reservations import CouponBusy
from coupon.acceptance.service import REQUEST_MAX_MS
from coupon.applying import dead_letters
from coupon.domain.model import CHUNK, HISTORY_MAX, REJECTIONS_MAX, ChangeCoupon, Kind, Reason, Refused, transition
from coupon.domain.serialization import decode_command, encode_command
from coupon.domain.topics import CREATION, REINDEX
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message
from coupon.ports.search import Query
from coupon.runtime.cache_entries import Confirmed, Entries, cache_key
from coupon.worker.backoff import PAUSE_S
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.checkpoint import FLUSH_INTERVAL_MS
from coupon.worker.worker import IDLE_S, POLL_S
from tests.coupons import a_command, a_creation
from tests.worker.conftest import FIRST, LAST, SHOP, a_world
from tests.worker.faults import Faulty, away

CHAIN = [(Kind.ISSUE, "ann"), (Kind.USE, None), (Kind.CANCEL_USE, None), (Kind.CANCEL, None), (Kind.ISSUE, "bob")]


def the_chain(world, code):
    return [world.change(kind, code, user) for kind, user in CHAIN]


def documents(world, user_id):
    return [d["couponCode"] for d in world.backends.search.find(Query(user_id=user_id), 100)]


def test_a_chain_accepted_before_any_of_it_was_applied_is_applied_whole(world):
    (code,) = world.coupons()
    addresses = the_chain(world, code)
    world.drain()
    assert [world.service.operations.outcome(address).status for address in addresses] == [Status.APPLIED] * 5
    coupon = world.stored(code)
    assert [entry.operation for entry in coupon.history[1:]] == [address.operation for address in addresses]
    assert (coupon.user_id, coupon.used, coupon.version) == ("bob", False, 6)
    assert documents(world, "bob") == [code]
    assert documents(world, "ann") == []
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
    assert documents(shaken, "bob") == [code]
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


@pytest.fixture
def steps(world):
    """A step of the worker, with a command to apply, after so many milliseconds; what was left uncommitted then."""
    codes = iter(world.coupons(20))

    def step(after_ms=0):
        world.now += after_ms
        world.change(Kind.ISSUE, next(codes), "ann")
        assert world.worker.run_once(poll_s=0) == 1
        return world.lag()

    return step


def test_batches_share_a_commit_until_one_is_due(world, steps):
    assert [steps(), steps(100), steps(FLUSH_INTERVAL_MS - 101), steps(1), steps()] == [1, 2, 3, 0, 1]


def test_what_was_accepted_without_the_cache_is_committed_at_once(world):
    """Its caller waits for that."""
    (code,) = world.coupons()
    world.rival(Kind.ISSUE, code, "ann", reserved=False)
    assert world.worker.run_once(poll_s=0) == 1
    assert world.lag() == 0


def test_what_was_done_is_committed_when_nothing_more_comes(world, steps):
    assert steps() == 1
    assert world.worker.run_once(poll_s=0) == 0
    assert world.lag() == 0


def test_batches_share_what_search_is_told(world, steps, monkeypatch):
    told = []
    monkeypatch.setattr(world.backends.search, "index_many", lambda coupons: told.append(len(list(coupons))))
    for _ in range(3):
        steps()
    assert told == []
    world.drain()
    assert told == [3]


def test_a_batch_that_is_enough_for_search_is_told_at_once_and_committed_later(environ):
    for world in a_world({**environ, "COUPON_BATCH_MAX": "5"}):
        codes = world.coupons(5)
        for code in codes:
            world.change(Kind.ISSUE, code, "ann")
        applied = 0
        while applied < 5:
            assert documents(world, "ann") == []
            applied += world.worker.run_once(poll_s=0)
        assert sorted(documents(world, "ann")) == sorted(codes)
        assert world.lag() == 5
        world.drain()
        assert world.lag() == 0


def test_a_poll_waits_no_longer_than_until_a_flush_is_due(world, steps):
    def asked_s():
        world.worker.run_once()
        return world.consumer.timeout_s

    steps()
    assert [asked_s(), asked_s()] == [IDLE_S, POLL_S]
    steps()
    world.now += FLUSH_INTERVAL_MS - 30
    assert asked_s() == 0.03


def test_a_clock_that_is_put_back_makes_no_commit_late(world, steps):
    assert steps() == 1
    world.skew = -3_600_000
    assert steps(FLUSH_INTERVAL_MS) == 0


def test_who_is_told_to_stop_commits_what_was_done(world, steps):
    steps()
    stop = threading.Event()
    stop.set()
    world.worker.run(stop)
    assert world.lag() == 0


def test_who_cannot_commit_when_told_to_stop_leaves_all_the_same_and_it_is_done_again(world, steps):
    steps()
    world.consumer.before["commit"] = [away()]
    stop = threading.Event()
    stop.set()
    world.worker.run(stop)
    assert world.lag() == 1
    world.drain(world.a_worker())
    assert world.lag() == 0


def test_a_zombie_that_wakes_up_does_not_overwrite(world):
    (code,) = world.coupons()
    zombie_sees = world.stored(code)
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    conflicts = world.backends.store.save_many([zombie_sees._replace(user_id="eve", revision=2)])
    assert conflicts == {code}
    assert world.stored(code).user_id == "ann"


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


def test_search_away_does_not_stop_money_and_is_caught_up(world):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    (code,) = shaken.coupons()
    search.down = True
    shaken.change(Kind.ISSUE, code, "ann")
    for _ in range(3):
        shaken.drain()
        shaken.now += 20_000
    assert shaken.stored(code).user_id == "ann"
    assert world.backends.queue.lag(["commands"], "worker") == 0
    assert world.backends.queue.lag(["reindex"], "worker") == 1
    search.down = False
    shaken.now += 20_000
    shaken.drain()
    assert documents(shaken, "ann") == [code]
    assert shaken.lag() == 0


def test_search_that_is_away_is_left_alone_until_it_answers_a_ping(world):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    codes = shaken.coupons(5)
    search.down = True
    search.calls.clear()
    for code in codes:
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
    assert search.calls == ["index_many"]


def test_with_search_and_queue_away_nothing_is_committed(world):
    search, queue = Faulty(world.backends.search), Faulty(world.backends.queue)
    (code,) = world.coupons()
    world.leave()
    shaken = world.but(search=search, queue=queue)
    shaken.change(Kind.ISSUE, code, "ann")
    search.down = True
    assert shaken.worker.run_once(poll_s=0) == 1
    queue.before["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.worker.run_once(poll_s=0)
    assert world.backends.queue.lag(["commands"], "worker") == 1
    shaken.worker.rewind()
    shaken.drain()
    assert world.backends.queue.lag(["commands", REINDEX], "worker") == 1  # the code, durably


def test_a_message_that_can_never_be_applied_is_dead_lettered_with_its_reason(world):
    (code,) = world.coupons()
    garbage = [b"{", b'{"kind":"burn"}', encode_command(a_command(Kind.USE, "u", code="Z" * 19))]
    world.backends.queue.publish([Message("commands", "k", value) for value in garbage])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    world.look(world.worker)
    world.look(world.worker)
    letters = list(dead_letters.browse(world.backends.queue))
    assert [letter.value for letter in letters] == garbage
    assert ["not JSON" in letters[0].reason, letters[1].reason, letters[2].reason] == [
        True,
        "Invalid enum value 'burn' - at `$.kind`",
        "the store has no such coupon",
    ]
    assert world.stored(code).user_id == "ann"
    assert world.lag() == 0


def test_search_is_not_asked_about_nothing(world, steps, monkeypatch):
    told = []
    monkeypatch.setattr(world.backends.search, "index_many", lambda coupons: told.append(len(list(coupons))))
    world.backends.queue.publish([Message("commands", "k", b"{")])
    world.drain()
    assert told == []


def test_a_dead_letter_replayed_is_applied_once(world):
    (code,) = world.coupons()
    message = encode_command(a_command(Kind.ISSUE, "i", previous=world.stored(code).last_operation, code=code))
    store = Faulty(world.backends.store)
    world.leave()
    shaken = world.but(store=store)
    store.before["save_many"] = [BackendRejected("too large")] * 2
    world.backends.queue.publish([Message("commands", code, message)])
    shaken.drain()
    (letter,) = dead_letters.browse(world.backends.queue)
    assert letter.reason == "too large"
    store.before.clear()
    for _ in range(2):
        dead_letters.replay(world.backends.queue, [letter])
        shaken.drain()
    assert world.stored(code).version == 2


def test_one_poisoned_command_does_not_take_its_batch_along(world):
    codes = world.coupons(10)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    save_many = world.backends.store.save_many

    def refuse_one(coupons):
        if any(coupon.code == codes[3] for coupon in coupons):
            raise BackendRejected("too large")
        return save_many(coupons)

    world.backends.store.save_many = refuse_one
    world.drain()
    assert [bool(world.stored(code).issued) for code in codes] == [code != codes[3] for code in codes]
    assert [letter.key for letter in dead_letters.browse(world.backends.queue)] == [codes[3]]


def test_the_cache_away_costs_no_command(world):
    cache = Faulty(world.backends.cache)
    shaken = world.but(cache=cache)
    (code,) = shaken.coupons()
    cache.down = True
    for kind, user in CHAIN:
        shaken.change(kind, code, user)
        shaken.drain()
    assert shaken.stored(code).version == 6


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
    cache.before["replace"] = [away()] * 4
    stale = transition(shaken.stored(codes[0]), a_command(Kind.CANCEL, "c", shaken.stored(codes[0]).last_operation, 2))
    entry = Entries(shaken.service.mint).encode(codes[0], Confirmed(stale))
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


def test_an_accepted_command_is_not_forgotten_by_a_refusal_before_it_is_applied(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    with pytest.raises(Refused, match="ALREADY_ISSUED"):
        world.change(Kind.ISSUE, code, "bob")


def test_a_command_on_another_topic_waits_for_its_predecessor(per_command):
    world = per_command
    (code,) = world.coupons()
    world.leave()
    issue, use = world.change(Kind.ISSUE, code, "ann"), world.change(Kind.USE, code)
    uses, issues = world.a_worker("use"), world.a_worker("issue")
    for _ in range(3):
        uses.run_once(poll_s=0)
    assert world.service.operations.outcome(use).status is Status.ACCEPTED
    assert world.backends.queue.lag(["use"], "worker") == 1
    world.drain(issues)
    world.look(uses)
    assert [world.service.operations.outcome(a).status for a in (issue, use)] == [Status.APPLIED] * 2
    uses.run_once(poll_s=0)
    assert world.backends.queue.lag(["use", "issue"], "worker") == 0


def test_a_predecessor_whose_topic_has_no_worker_is_waited_for_so_long_and_then_dead_lettered(per_command):
    """Not rejected: that would settle the predecessor's number too. Both are applied once there is a worker, and the
    letter is replayed."""
    world = per_command
    (code,) = world.coupons()
    world.leave()
    issue, use = world.change(Kind.ISSUE, code, "ann"), world.change(Kind.USE, code)
    uses = world.a_worker("use")
    uses.run_once(poll_s=0)
    world.look(uses, after_ms=world.settings.predecessor_wait_s * 1000 - 600)
    assert world.backends.queue.lag(["use"], "worker") == 1
    world.look(uses, after_ms=600)
    assert world.backends.queue.lag(["use"], "worker") == 0
    (letter,) = dead_letters.browse(world.backends.queue)
    world.drain(world.a_worker("issue"))
    dead_letters.replay(world.backends.queue, [letter])
    world.drain(uses)
    assert [world.service.operations.outcome(a).status for a in (issue, use)] == [Status.APPLIED] * 2


def test_what_waits_holds_back_only_its_own_offset(per_command):
    world = per_command
    codes = world.coupons(30)
    world.leave()
    issues, uses = world.a_worker("issue"), world.a_worker("use")
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    world.drain(issues)
    world.change(Kind.CANCEL, codes[0])
    world.change(Kind.ISSUE, codes[0], "bob")
    waiting = world.change(Kind.USE, codes[0], "bob")
    for code in codes[1:]:
        world.change(Kind.USE, code)
    for _ in range(3):
        uses.run_once(poll_s=0)
    assert all(world.stored(code).used for code in codes[1:])
    assert world.backends.queue.lag(["use"], "worker") >= 1
    world.drain(world.a_worker("cancel"))
    world.drain(issues)
    world.look(uses)
    uses.run_once(poll_s=0)
    assert world.service.operations.outcome(waiting).status is Status.APPLIED
    assert world.backends.queue.lag(["use", "issue", "cancel"], "worker") == 0


def test_a_cache_that_refuses_a_coupon_costs_no_command(world):
    cache = Faulty(world.backends.cache)
    shaken = world.but(cache=cache)
    (code,) = shaken.coupons()
    cache.before["add"] = [BackendRejected("too large")]
    shaken.change(Kind.ISSUE, code, "ann")
    shaken.drain()
    assert shaken.stored(code).user_id == "ann"


@pytest.mark.parametrize("culprit", ["index_many", "ping"])
def test_search_that_refuses_us_does_not_stop_money_nor_make_dead_letters(world, culprit):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    codes = shaken.coupons(30)
    search.before["index_many"] = [away()] if culprit == "ping" else [BackendRejected("401")] * 1000
    search.before["ping"] = [BackendRejected("401")] * 1000
    for code in codes:
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
        shaken.now += 20_000
    assert all(shaken.stored(code).issued for code in codes)
    assert list(dead_letters.browse(world.backends.queue)) == []


@pytest.mark.parametrize("error", [BackendRejected("mapping"), OverflowError("int too big to convert")])
def test_one_document_that_search_refuses_or_stumbles_over_costs_no_other_and_no_command(world, monkeypatch, error):
    codes = world.coupons(9)
    index_many = world.backends.search.index_many

    def all_but_one(coupons):
        if any(coupon.code == codes[3] for coupon in coupons):
            raise error
        index_many(coupons)

    monkeypatch.setattr(world.backends.search, "index_many", all_but_one)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    with capture_logs() as lines:
        world.drain()
    assert [world.stored(code).issued for code in codes] == [True] * 9
    assert sorted(documents(world, "ann")) == sorted({*codes} - {codes[3]})
    assert [line["code"] for line in lines if line["event"] == "document refused"] == [codes[3]]
    assert (list(dead_letters.browse(world.backends.queue)), world.lag()) == ([], 0)


POISON = [
    b"x" * 999_000,
    b'"\xed\xa0\x80"',
    encode_command(a_creation(size=0)),
    encode_command(a_creation(size=-5)),
    encode_command(a_creation(accepted_at=10**18)),
    encode_command(a_creation(accepted_at=2**70)),
    encode_command(a_command(Kind.USE, "u", code="A" * 300)),
]


@pytest.mark.parametrize("poison", POISON, ids=lambda value: value[:30].decode(errors="replace"))
def test_no_message_stops_those_behind_it(world, poison):
    (code,) = world.coupons()
    world.backends.queue.publish([Message("commands", code, poison)])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert world.stored(code).user_id == "ann"
    (letter,) = dead_letters.browse(world.backends.queue)
    assert poison.startswith(letter.value)
    assert letter.whole == (letter.value == poison)
    assert world.lag() == 0


def test_a_bug_in_a_backend_costs_one_command_and_not_all(world):
    codes = world.coupons(10)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    save_many = world.backends.store.save_many

    def stumble(coupons):
        if any(coupon.code == codes[3] for coupon in coupons):
            raise OverflowError("int too big to convert")
        return save_many(coupons)

    world.backends.store.save_many = stumble
    world.drain()
    assert [world.stored(code).issued for code in codes] == [code != codes[3] for code in codes]
    (letter,) = dead_letters.browse(world.backends.queue)
    assert "OverflowError" in letter.reason


def test_what_is_no_dead_letter_of_ours_does_not_hide_the_others(world):
    world.backends.queue.publish([Message("dead-letters", "k", b"hello"), Message("commands", "k", b"{")])
    world.drain()
    assert [letter.value for letter in dead_letters.browse(world.backends.queue)] == [b"{"]


def test_a_worker_that_died_between_a_rejection_and_the_cache_forgets_it_the_second_time(world):
    cache = Faulty(world.backends.cache)
    world.leave()
    shaken = world.but(cache=cache)
    (code,) = shaken.coupons()
    shaken.change(Kind.ISSUE, code, "ann")
    shaken.backends.cache.delete_many([cache_key(code)])
    shaken.change(Kind.ISSUE, code, "bob")
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
    entry = Entries(shaken.service.mint).encode(code, Confirmed(transition(born, lost)))
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
    (code,) = shaken.coupons()
    shaken.change(Kind.ISSUE, code, "ann")
    shaken.backends.cache.delete_many([cache_key(code)])
    shaken.change(Kind.ISSUE, code, "bob")
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
    backends, mint = cached.backends, cached.service.mint
    CacheInvalidator(backends.cache, backends.store, backends.queue, mint, 100, lambda: 0).invalidate([code])
    with pytest.raises(Refused, match="ALREADY_USED"):
        cached.change(Kind.CANCEL, code)
    for worker in list(world.consumers)[1:]:
        world.drain(worker)
    assert world.stored(code).used


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


def test_a_backlog_of_chains_on_several_topics_is_drained_whatever_waits(environ):
    """Issues wait for cancels and cancels for issues, more of them than a batch holds. Leaving whole topics alone would
    leave the ones alone that the others wait for."""
    changes = {"COUPON_TOPICS": "per-command", "COUPON_BATCH_MAX": "4", "COUPON_QUEUE_URL": "memory://?partitions=4"}
    for world in a_world({**environ, **changes}):
        codes = world.coupons(60)
        for code in codes:
            for number in range(6):
                world.change(Kind.CANCEL if number % 2 else Kind.ISSUE, code, None if number % 2 else "ann")
        for _ in range(600):
            world.look(world.worker, after_ms=3)
        assert {world.stored(code).version for code in codes} == {7}
        assert world.backends.queue.lag(["issue", "cancel"], "worker") == 0


def test_a_long_batch_is_given_back_so_that_the_group_is_polled(world):
    whole = a_creation(amount=20_000, size=CHUNK, mint=world.service.mint.fingerprint)
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


def test_what_waits_is_not_committed_when_the_store_goes_away_behind_it(per_command, monkeypatch):
    """Neither what waited before nor what has begun to, when a bug has the part applied one by one."""
    world, get_many = per_command, per_command.backends.store.get_many
    codes = world.coupons(3)
    world.leave()
    issues, uses = world.a_worker("issue"), world.a_worker("use")
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    waiting = [world.change(Kind.USE, codes[0])]
    uses.run_once(poll_s=0)
    waiting += [world.change(Kind.USE, code) for code in codes[1:]]

    def failing(asked):
        asked = list(asked)
        if len(asked) > 1:
            raise RuntimeError("a bug")
        if asked == codes[2:]:
            raise away()
        return get_many(asked)

    with monkeypatch.context() as patch:
        patch.setattr(world.backends.store, "get_many", failing)
        with pytest.raises(BackendUnavailable):
            uses.run_once(poll_s=0)
    world.leave(uses)
    world.drain(issues)
    world.drain(world.a_worker("use"))
    assert [world.service.operations.outcome(address).status for address in waiting] == [Status.APPLIED] * 3


def test_what_had_waited_is_not_committed_when_its_part_fails_at_the_end(per_command):
    """It is in the store already, and search does not know of it. A rival lost to it, so the cache is to be checked."""
    store = Faulty(per_command.backends.store)
    world = per_command.but(store=store)
    (code,) = world.coupons()
    per_command.leave()
    world.leave()
    issues, uses = world.a_worker("issue"), world.a_worker("use")
    issue = world.change(Kind.ISSUE, code, "ann")
    use = world.change(Kind.USE, code)
    builds_on = {"previous": issue.operation, "previous_version": 2, "previous_number": issue.number}
    world.rival(Kind.USE, code, key="k", number=use.number + 1, **builds_on)
    uses.run_once(poll_s=0)
    world.drain(issues)

    store.before["get_many"] = [None, None, away()]  # to see whether it is ready, to apply it, and to check the cache
    world.now += 1_000
    with pytest.raises(BackendUnavailable):
        uses.run_once(poll_s=0)
    assert world.stored(code).used
    assert world.backends.queue.lag(["use"], "worker") == 2
    uses.rewind()
    world.drain(uses)
    assert world.backends.queue.lag(["use"], "worker") == 0
    assert world.backends.search.find(Query(user_id="ann"), 10)[0]["usedAt"] is not None


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
