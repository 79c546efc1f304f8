"""Commands that wait for a predecessor on another topic: none is lost, and none holds up others."""

import pytest

from coupon.acceptance.operations import Status
from coupon.applying import dead_letters
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind
from coupon.ports.search import Query
from coupon.worker.checkpoint import FLUSH_INTERVAL_MS
from tests.worker.conftest import a_world
from tests.worker.faults import Faulty, away


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


def test_what_was_applied_beside_a_waiting_command_is_found_and_committed_in_time(per_command):
    """Though nothing more comes."""
    world = per_command
    waiting, other = world.coupons(2)
    world.leave()
    world.change(Kind.ISSUE, other, "ann")
    world.drain(world.a_worker("issue"))
    world.leave()
    world.change(Kind.ISSUE, waiting, "bob")
    world.change(Kind.USE, other)
    world.change(Kind.USE, waiting)
    uses = world.a_worker("use")
    uses.run_once(poll_s=0)
    assert world.backends.queue.lag(["use"], "worker") == 2
    world.look(uses, after_ms=FLUSH_INTERVAL_MS)
    assert world.backends.queue.lag(["use"], "worker") == 1
    (found,) = world.backends.search.find(Query(user_id="ann"), 10)
    assert found["used"]


@pytest.mark.logs_error("dead letter")
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
