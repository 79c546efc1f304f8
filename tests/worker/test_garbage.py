"""What the worker meets in the queue and in the store that nobody of ours has written."""

import pytest
import structlog
from structlog.testing import capture_logs

from coupon.applying import dead_letters
from coupon.applying import safe_reads as reading
from coupon.domain.errors import Unreadable
from coupon.domain.model import Kind
from coupon.domain.serialization import dump
from coupon.domain.topics import OUTBOX
from coupon.ports.queue import Message
from coupon.ports.search import Query
from tests.coupons import a_coupon
from tests.worker.conftest import FIRST, LAST, SHOP


@pytest.mark.logs_error("dead letter")
@pytest.mark.parametrize("topic", OUTBOX)
@pytest.mark.parametrize("owed", [["a b"], ["A" * 18], [""], [None], "A" * 19, ["A" * 19] * 501, {"A" * 19: 1}])
def test_what_is_owed_and_is_no_list_of_codes_is_dead_lettered_and_stops_nothing(world, topic, owed):
    (code,) = world.coupons()
    world.backends.queue.publish([Message(topic, code, dump(owed))])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert [letter.topic for letter in dead_letters.browse(world.backends.queue)] == [topic]
    assert world.stored(code).user_id == "ann"
    assert world.lag() == 0


@pytest.fixture
def logs(monkeypatch):
    """What is told of reading, also after another test has configured what is logged."""
    monkeypatch.setattr(reading, "log", structlog.get_logger())
    with capture_logs() as logs:
        yield logs


def told_unreadable(logs):
    return {entry["code"] for entry in logs if (entry["event"], entry["log_level"]) == ("unreadable", "error")}


@pytest.mark.logs_error("unreadable", "dead letter")
def test_a_coupon_that_cannot_be_read_costs_its_own_commands_and_no_others(world, logs):
    spoilt, *others = world.coupons(40)
    for code in (*others[:20], spoilt, *others[20:]):
        world.change(Kind.ISSUE, code, "ann")
    world.change(Kind.USE, spoilt)
    world.backends.store.spoil(spoilt)
    world.drain()
    dead = list(dead_letters.browse(world.backends.queue))
    assert [letter.reason for letter in dead] == [f"what is stored of {spoilt} is no coupon: spoiled"] * 2
    assert told_unreadable(logs) == {spoilt}
    assert {world.stored(code).user_id for code in others} == {"ann"}
    held = world.backends.search.find(Query(user_id="ann"), 100)
    assert [document["couponCode"] for document in held] == sorted(others)
    assert world.lag() == 0


@pytest.mark.logs_error("unreadable", "dead letter")
def test_its_commands_are_applied_when_the_row_was_mended_and_they_are_replayed(world):
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.change(Kind.USE, code)
    world.backends.store.spoil(code)
    world.drain()
    with pytest.raises(Unreadable, match=code):  # the cache would have more commands built on it
        world.change(Kind.CANCEL_USE, code)
    world.backends.store.mend(code)
    dead_letters.replay(world.backends.queue, list(dead_letters.browse(world.backends.queue)))
    world.drain()
    assert [entry.kind for entry in world.stored(code).history] == [Kind.CREATE, Kind.ISSUE, Kind.USE]


@pytest.mark.logs_error("unreadable", "dead letter")
def test_what_waits_for_a_coupon_that_cannot_be_read_any_more_is_dead_lettered(per_command):
    """And does not end each round of the worker before it begins."""
    world = per_command
    spoilt, other = world.coupons(2)
    world.leave()
    for code in (spoilt, other):
        world.change(Kind.ISSUE, code, "ann")
        world.change(Kind.USE, code)
    uses, issues = world.a_worker("use"), world.a_worker("issue")
    for _ in range(3):
        uses.run_once(poll_s=0)
    world.backends.store.spoil(spoilt)
    world.drain(issues)
    for _ in range(3):
        world.look(uses, issues)
    assert world.stored(other).used
    dead = dead_letters.browse(world.backends.queue)
    assert {letter.topic for letter in dead if spoilt in letter.reason} == {"issue", "use"}
    assert world.backends.queue.lag(["use", "issue"], "worker") == 0


@pytest.mark.logs_error("unreadable", "dead letter")
def test_a_part_with_a_coupon_that_cannot_be_read_is_still_one_write(world, monkeypatch):
    """Or one such coupon would slow all others down to a command a write."""
    spoilt, *others = world.coupons(30)
    for code in (spoilt, *others):
        world.change(Kind.ISSUE, code, "ann")
    world.backends.store.spoil(spoilt)
    saved, save_many = [], world.backends.store.save_many
    monkeypatch.setattr(world.backends.store, "save_many", lambda coupons: saved.append(coupons) or save_many(coupons))
    world.drain()
    assert [len(coupons) for coupons in saved] == [len(others)]


@pytest.mark.logs_error("unreadable")
def test_a_creation_over_a_row_that_cannot_be_read_makes_all_others(world, logs):
    address = world.service.create(20, FIRST, LAST, SHOP)
    codes = world.service.codes(address, 0, 20)
    for spoilt in (codes[3], codes[-1]):  # also the chunk's marker
        world.backends.store.save_many([a_coupon(spoilt)])
        world.backends.store.spoil(spoilt)
    world.drain()
    assert world.service.operations.outcome(address).created == 20
    assert told_unreadable(logs) == {codes[3], codes[-1]}
    assert {world.stored(code).version for code in codes[:-1] if code != codes[3]} == {1}
    assert not list(dead_letters.browse(world.backends.queue))
    assert world.lag() == 0


@pytest.mark.logs_error("unreadable")
def test_what_is_owed_of_a_coupon_that_cannot_be_read_holds_up_no_other(world):
    spoilt, code = world.coupons(2)
    world.backends.store.spoil(spoilt)
    for topic in OUTBOX:
        world.backends.queue.publish([Message(topic, "k", dump([spoilt, code]))])
    world.drain()
    assert world.lag() == 0
    assert not list(dead_letters.browse(world.backends.queue))
